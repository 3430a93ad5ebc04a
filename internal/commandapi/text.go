package commandapi

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coditect-ai/license-ledger/internal/serve"
)

// How long texts may be, in characters. Contract: api/openapi.yaml.
const (
	nameMax    = 200
	productMax = 100
	reasonMax  = 500
	idMax      = 100
)

// checkText refuses a text that is too short or too long, or holds control characters: a database cannot store a NUL, and
// nobody means the others.
func checkText(field, text string, least, most int) error {
	if len(text) >= least && len(text) <= most && isPlain(text) {
		return nil
	}
	n := utf8.RuneCountInString(text)
	switch {
	case n < least:
		return serve.Invalid(field, fmt.Sprintf("The field %q must not be empty.", field))
	case n > most:
		return serve.Invalid(field, fmt.Sprintf("The field %q must be at most %d characters, not %d.", field, most, n))
	case strings.ContainsFunc(text, unicode.IsControl):
		return serve.Invalid(field, fmt.Sprintf("The field %q must not hold control characters.", field))
	}
	return nil
}

// isPlain reports whether a text is of visible ASCII alone, as ids are: most of all that is checked.
func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// firstError returns the first error that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// idEncoding has no letters that people mix up. Source: Crockford's base 32, in lower case.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newID returns prefix and 16 random characters: 80 bits.
func newID(prefix string) string {
	var b [10]byte
	rand.Read(b[:]) // never fails
	return prefix + idEncoding.EncodeToString(b[:])
}
