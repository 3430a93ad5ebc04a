package identity

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
)

func secretOf(b byte) Secret { return bytes.Repeat([]byte{b}, secretBytes) }

func TestLicenseKeyOpensWhatItWasMadeFor(t *testing.T) {
	t.Parallel()
	keys := NewLicenseKeys(secretOf(1))
	rapid.Check(t, func(t *rapid.T) {
		tenant := domain.TenantID(rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`).Draw(t, "tenant"))
		id := keys.NewID()
		text := keys.Text(tenant, id)
		key, err := keys.Parse(text)
		if err != nil || key.Tenant != tenant || key.ID != id {
			t.Fatalf("%s parsed as %+v, %v", text, key, err)
		}
		if !key.Opens(keys.Stored(tenant, id)) {
			t.Fatalf("%s does not open its license", text)
		}
		if key.Opens(keys.Stored(tenant, keys.NewID())) || key.Opens(keys.Stored(tenant+"x", id)) {
			t.Fatalf("%s opens another license", text)
		}
		if !keys.Made(text) || NewLicenseKeys(secretOf(2)).Made(text) || NewTenantKeys(secretOf(1)).Made(text) {
			t.Fatalf("%s was made by this ledger as a license key, and by no other", text)
		}
		if again := keys.Text(tenant, id); again != text {
			t.Fatalf("the key cannot be told again: %s, then %s", text, again)
		}
		if stored := keys.Stored(tenant, id); strings.Contains(text, string(stored.Hash)) || len(stored.Hash) != 32 {
			t.Fatalf("stored %x", stored.Hash)
		}
		if foreign, err := NewLicenseKeys(secretOf(2)).Parse(text); err != nil || foreign.Opens(keys.Stored(tenant, id)) {
			t.Fatalf("another ledger's pepper gives the same hash, or %v", err)
		}
	})
}

// Any one character changed, or any cut, is known for a mistyped key without a look-up.
func TestMistypedLicenseKeyIsRefused(t *testing.T) {
	t.Parallel()
	keys := NewLicenseKeys(secretOf(1))
	text := keys.Text("acme", "abcdefghijkl")
	for i := range text {
		for _, c := range []byte("a0_Z-") {
			if changed := text[:i] + string(c) + text[i+1:]; changed != text {
				if _, err := keys.Parse(changed); !errors.Is(err, ErrBadKey) {
					t.Errorf("%s parsed: %v", changed, err)
				}
			}
		}
		if _, err := keys.Parse(text[:i]); !errors.Is(err, ErrBadKey) {
			t.Errorf("%s parsed: %v", text[:i], err)
		}
	}
}

func FuzzParseLicenseKey(f *testing.F) {
	keys := NewLicenseKeys(secretOf(1))
	f.Add(keys.Text("acme", "abcdefghijkl"))
	f.Add("lk___")
	f.Fuzz(func(t *testing.T, text string) {
		if key, err := keys.Parse(text); err == nil && !domain.ValidTenantID(string(key.Tenant)) {
			t.Fatalf("%q gives the tenant %q", text, key.Tenant)
		}
	})
}

func TestFilesAreMadeOnceAndPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, err := LoadOrCreateSecret(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := LoadOrCreateOperatorKey(filepath.Join(dir, "operator"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadSecret(filepath.Join(dir, "secret"))
	if err != nil || !bytes.Equal(again, secret) {
		t.Fatalf("secret read again: %v", err)
	}
	key, textAgain, err := LoadOrCreateOperatorKey(filepath.Join(dir, "operator"))
	if err != nil || textAgain != text || !key.Is(text) || key.Is(text+"x") || key.Is("") {
		t.Fatalf("operator key read again: %v", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("files left: %v %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

func TestBadFilesAreReported(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSecret(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "basenc") {
		t.Errorf("secret: %v; want the file and how to make one", err)
	}
	if _, err := LoadOperatorKey(path); !errors.Is(err, ErrBadOperatorKey) {
		t.Errorf("operator key: %v", err)
	}
}

func TestZeroOperatorKeyOpensNothing(t *testing.T) {
	t.Parallel()
	if (OperatorKey{}).Is("") || (OperatorKey{}).Is("op_") {
		t.Error("the zero key opens")
	}
}
