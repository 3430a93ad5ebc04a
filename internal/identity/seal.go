package identity

import (
	"crypto/hmac"
	"encoding/base64"
)

// Seal shows one process of a ledger that a message comes from another: a keyed hash of it.
type Seal struct{ key []byte }

// NewSeal returns the seal of the ledger with this secret.
func NewSeal(s Secret) Seal { return Seal{s.derive("messages between processes")} }

// Of returns the seal of a message.
func (s Seal) Of(message []byte) string {
	return base64.RawURLEncoding.EncodeToString(keyed(s.key, string(message)))
}

// Is reports whether a message has that seal.
func (s Seal) Is(seal string, message []byte) bool {
	return hmac.Equal([]byte(seal), []byte(s.Of(message)))
}
