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

// LicenseKeys makes and reads license keys: "lk_<tenant>_<id>_<secret><crc>". The tenant in it routes a command without
// a look-up; the checksum tells a mistyped key from a wrong one.
//
// The secret is derived from the ledger's secret and the key's id, so that the answer to an issue that was lost on the
// way can be given again. The ledger stores a keyed hash: its journal alone opens nothing.
type LicenseKeys struct{ derivation, pepper []byte }

// NewLicenseKeys returns the license keys of the ledger with this secret.
func NewLicenseKeys(s Secret) *LicenseKeys {
	return &LicenseKeys{derivation: s.derive("license key secrets"), pepper: s.derive("license key hashes")}
}

const (
	licensePrefix = "lk"
	keyIDChars    = 12 // of base62: 71 bits
	secretChars   = 43 // of base62: 256 bits
	crcChars      = 6  // of base62: 32 bits
)

// ErrBadLicenseKey: the text is no license key, or was mistyped.
var ErrBadLicenseKey = errors.New("not a license key: it is mistyped or cut off")

// NewID returns a random id for a new key.
func (*LicenseKeys) NewID() domain.KeyID {
	max := new(big.Int).Exp(big.NewInt(62), big.NewInt(keyIDChars), nil)
	n, err := rand.Int(rand.Reader, max)
	if err != nil {
		panic(err) // the system's random numbers never fail
	}
	return domain.KeyID(base62(n, keyIDChars))
}

// Text returns the whole key with this id.
func (k *LicenseKeys) Text(tenant domain.TenantID, id domain.KeyID) string {
	text := strings.Join([]string{licensePrefix, string(tenant), string(id), k.secret(tenant, id)}, "_")
	return text + checksum(text)
}

// Stored returns what the ledger keeps of the key with this id.
func (k *LicenseKeys) Stored(tenant domain.TenantID, id domain.KeyID) domain.LicenseKey {
	return domain.LicenseKey{ID: id, Hash: k.hash(k.secret(tenant, id))}
}

// Presented is a license key as a caller presented it: well-formed, not yet found right.
type Presented struct {
	Tenant domain.TenantID
	ID     domain.KeyID
	hash   []byte
}

// Parse reads a license key. Errors: ErrBadLicenseKey.
func (k *LicenseKeys) Parse(text string) (Presented, error) {
	body := len(text) - crcChars
	if body <= 0 || checksum(text[:body]) != text[body:] {
		return Presented{}, ErrBadLicenseKey
	}
	parts := strings.Split(text[:body], "_")
	if len(parts) != 4 || parts[0] != licensePrefix || !domain.ValidTenantID(parts[1]) ||
		len(parts[2]) != keyIDChars || len(parts[3]) != secretChars {
		return Presented{}, ErrBadLicenseKey
	}
	return Presented{Tenant: domain.TenantID(parts[1]), ID: domain.KeyID(parts[2]), hash: k.hash(parts[3])}, nil
}

// Opens reports whether the presented key is the stored one.
func (p Presented) Opens(stored domain.LicenseKey) bool {
	return p.ID == stored.ID && hmac.Equal(p.hash, stored.Hash)
}

func (k *LicenseKeys) secret(tenant domain.TenantID, id domain.KeyID) string {
	sum := keyed(k.derivation, string(tenant)+"_"+string(id))
	return base62(new(big.Int).SetBytes(sum), secretChars)
}

func (k *LicenseKeys) hash(secret string) []byte { return keyed(k.pepper, secret) }

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
