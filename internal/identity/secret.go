package identity

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secretBytes is the length of a ledger's secret.
const secretBytes = 32

// Secret is the ledger's own secret, the same in all its services. What it is used for each gets a key of its own.
type Secret []byte

// derive returns a 32-byte key for one purpose.
func (s Secret) derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, s, nil, purpose, sha256.Size)
	if err != nil {
		panic(err) // only a length that is too large
	}
	return key
}

// LoadOrCreateSecret returns the ledger's secret from a file that only its owner may read, made on first use.
func LoadOrCreateSecret(path string) (Secret, error) {
	text, err := loadOrCreate(path, func() string {
		return base64.RawURLEncoding.EncodeToString(randomBytes(secretBytes))
	})
	if err != nil {
		return nil, err
	}
	return parseSecret(path, text)
}

// LoadSecret returns the ledger's secret from a file.
func LoadSecret(path string) (Secret, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseSecret(path, strings.TrimSpace(string(text)))
}

func parseSecret(path, text string) (Secret, error) {
	secret, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(secret) < secretBytes {
		return nil, fmt.Errorf("%s must hold at least %d random bytes in URL-safe base64; make one with: "+
			"head -c 32 /dev/urandom | basenc --base64url | tr -d '=\\n'", path, secretBytes)
	}
	return secret, nil
}

// loadOrCreate returns the content of a file, which create makes on first use. The file appears whole or not at all.
func loadOrCreate(path string, create func() string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	made := create()
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(made + "\n")
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return made, syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
