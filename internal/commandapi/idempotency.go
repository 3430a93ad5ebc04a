package commandapi

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// idempotencyKeyMax is the longest Idempotency-Key, in characters.
const idempotencyKeyMax = 200

// idempotencyOf returns the Idempotency-Key of a call; nil when it has none. Keys of different callers never meet. What
// is kept for good are hashes, because a key may say something about a person; and because a body does, too, and can be guessed,
// its hash is also over the key, which cannot.
func idempotencyOf(c call) (*eventstore.Idempotency, error) {
	values, sent := c.Header[http.CanonicalHeaderKey("Idempotency-Key")]
	if !sent {
		return nil, nil
	}
	key := values[0]
	if len(values) > 1 || key == "" || len(key) > idempotencyKeyMax || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return nil, serve.Invalid("Idempotency-Key", fmt.Sprintf("The header Idempotency-Key must be 1 to %d visible ASCII characters.", idempotencyKeyMax))
	}
	return &eventstore.Idempotency{
		Key:         hashOf(16, c.actor, strconv.Itoa(c.part), key),
		Fingerprint: hashOf(8, key, c.Method, c.URL.Path, string(c.body)),
	}, nil
}

// hashOf returns the first n bytes of a hash over texts, as URL-safe base64.
func hashOf(n int, texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		fmt.Fprintf(h, "%d:%s", len(text), text)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:n])
}

// traceparentOf returns the W3C trace context that the events of a request carry: that of its span when it is traced here,
// else the caller's; empty when there is none or it is malformed.
func traceparentOf(r *http.Request) string {
	if span := trace.SpanContextFromContext(r.Context()); span.IsValid() {
		return "00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-" + span.TraceFlags().String()
	}
	const form = "00-00000000000000000000000000000000-0000000000000000-00"
	header := r.Header.Get("Traceparent")
	if len(header) != len(form) {
		return ""
	}
	for i, c := range []byte(header) {
		isHex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if (form[i] == '-') != (c == '-') || (form[i] == '0' && !isHex) {
			return ""
		}
	}
	return header
}
