package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"

	"github.com/coditect-ai/license-ledger/domain"
)

// Keys makes and reads the keys of one kind: "<prefix>_<tenant>_<id>_<secret><crc>". The tenant in a key routes a command
// without a look-up; the checksum tells a mistyped key from a wrong one.
//
// The secret is derived from the ledger's secret and the key's id, so that an answer with a new key that was lost on the
// way can be given again. The ledger stores a keyed hash: its journal alone opens nothing.
type Keys struct {
	prefix             string
	derivation, pepper []byte
}

// NewLicenseKeys returns the license keys, "lk_…", of the ledger with this secret.
func NewLicenseKeys(s Secret) *Keys {
	return &Keys{prefix: "lk", derivation: s.derive("license key secrets"), pepper: s.derive("license key hashes")}
}

// NewTenantKeys returns the keys of tenants' people, "tk_…", of the ledger with this secret.
func NewTenantKeys(s Secret) *Keys {
	return &Keys{prefix: "tk", derivation: s.derive("tenant key secrets"), pepper: s.derive("tenant key hashes")}
}

const (
	keyIDChars  = 12 // of base62: 71 bits
	secretChars = 43 // of base62: 256 bits
	crcChars    = 6  // of base62: 32 bits
)

// ErrBadKey: the text is no key of this kind, or was mistyped.
var ErrBadKey = errors.New("not a key of this kind, or mistyped or cut off")

// NewID returns a random id for a new key.
func (*Keys) NewID() domain.KeyID {
	max := new(big.Int).Exp(big.NewInt(62), big.NewInt(keyIDChars), nil)
	n, err := rand.Int(rand.Reader, max)
	if err != nil {
		panic(err) // the system's random numbers never fail
	}
	return domain.KeyID(base62(n, keyIDChars))
}

// Text returns the whole key with this id.
func (k *Keys) Text(tenant domain.TenantID, id domain.KeyID) string {
	text := strings.Join([]string{k.prefix, string(tenant), string(id), k.secret(tenant, id)}, "_")
	return text + checksum(text)
}

// Stored returns what the ledger keeps of the key with this id.
func (k *Keys) Stored(tenant domain.TenantID, id domain.KeyID) domain.StoredKey {
	return domain.StoredKey{ID: id, Hash: k.hash(k.secret(tenant, id))}
}

// Presented is a key as a caller presented it: well-formed, not yet found right.
type Presented struct {
	Tenant domain.TenantID
	ID     domain.KeyID
	hash   []byte
}

// Parse reads a key. Errors: ErrBadKey.
func (k *Keys) Parse(text string) (Presented, error) {
	body := len(text) - crcChars
	if body <= 0 || checksum(text[:body]) != text[body:] {
		return Presented{}, ErrBadKey
	}
	parts := strings.Split(text[:body], "_")
	if len(parts) != 4 || parts[0] != k.prefix || !domain.ValidTenantID(parts[1]) ||
		len(parts[2]) != keyIDChars || len(parts[3]) != secretChars {
		return Presented{}, ErrBadKey
	}
	return Presented{Tenant: domain.TenantID(parts[1]), ID: domain.KeyID(parts[2]), hash: k.hash(parts[3])}, nil
}

// Made reports whether text is a key that this ledger made, of use still or not: it is computed, not looked up.
func (k *Keys) Made(text string) bool {
	p, err := k.Parse(text)
	return err == nil && p.Opens(k.Stored(p.Tenant, p.ID))
}

// Opens reports whether the presented key is the stored one.
func (p Presented) Opens(stored domain.StoredKey) bool {
	return p.ID == stored.ID && hmac.Equal(p.hash, stored.Hash)
}

func (k *Keys) secret(tenant domain.TenantID, id domain.KeyID) string {
	sum := keyed(k.derivation, string(tenant)+"_"+string(id))
	return base62(new(big.Int).SetBytes(sum), secretChars)
}

func (k *Keys) hash(secret string) []byte { return keyed(k.pepper, secret) }

func keyed(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func checksum(text string) string {
	var digits [crcChars]byte
	rest := crc32.ChecksumIEEE([]byte(text))
	for i := crcChars - 1; i >= 0; i-- {
		digits[i] = base62Digits[rest%62]
		rest /= 62
	}
	return string(digits[:])
}

const base62Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// base62 returns n with exactly width digits.
func base62(n *big.Int, width int) string {
	digits := make([]byte, width)
	base, rest, digit := big.NewInt(62), new(big.Int).Set(n), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		rest.DivMod(rest, base, digit)
		digits[i] = base62Digits[digit.Int64()]
	}
	return string(digits)
}
