package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"os"
	"strings"
)

// OperatorKey is the bearer key of the ledger's operator: "op_" and 43 characters.
type OperatorKey struct{ hash [sha256.Size]byte }

const operatorPrefix = "op_"

// ErrBadOperatorKey: the text is no operator key.
var ErrBadOperatorKey = errors.New(`an operator key is "op_" and at least 43 characters`)

// LoadOrCreateOperatorKey returns the operator's key from a file that only its owner may read, made on first use, and
// its text, to show it once.
func LoadOrCreateOperatorKey(path string) (OperatorKey, string, error) {
	text, err := loadOrCreate(path, func() string {
		return operatorPrefix + base64.RawURLEncoding.EncodeToString(randomBytes(secretBytes))
	})
	if err != nil {
		return OperatorKey{}, "", err
	}
	key, err := ParseOperatorKey(text)
	return key, text, err
}

// LoadOperatorKey returns the operator's key from a file.
func LoadOperatorKey(path string) (OperatorKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return OperatorKey{}, err
	}
	return ParseOperatorKey(strings.TrimSpace(string(text)))
}

// ParseOperatorKey returns the key that text spells. Errors: ErrBadOperatorKey.
func ParseOperatorKey(text string) (OperatorKey, error) {
	if !strings.HasPrefix(text, operatorPrefix) || len(text) < len(operatorPrefix)+43 {
		return OperatorKey{}, ErrBadOperatorKey
	}
	return OperatorKey{hash: sha256.Sum256([]byte(text))}, nil
}

// Is reports whether bearer is this key.
func (k OperatorKey) Is(bearer string) bool {
	hash := sha256.Sum256([]byte(bearer))
	return k.hash != [sha256.Size]byte{} && subtle.ConstantTimeCompare(hash[:], k.hash[:]) == 1
}
