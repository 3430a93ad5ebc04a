package commandapi_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

const forgetPath = "/api/v1/tenants/acme/forget"

func TestForget(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	_, key := s.license("acme", 2, 300)
	acquired := s.want(s.call("POST", acquirePath, key, holder("ada"), "Idempotency-Key", "a"), 201, "")
	for body, field := range map[string]string{
		`{}`:                           "user",
		`{"user":"ada","machine":"m"}`: "user",
		`{"user":""}`:                  "user",
		`{"user":"ada","reason":"by ADA herself"}`: "reason",
		`{"usr":"ada"}`: "usr",
	} {
		if got := s.want(s.call("POST", forgetPath, operatorKey, body), 400, ""); got.str("field") != field {
			t.Errorf("%s: %s, want the field %s", body, got.text, field)
		}
	}
	s.want(s.call("POST", "/api/v1/tenants/nobody/forget", operatorKey, `{"user":"ada"}`), 404, "tenant_not_found")
	s.want(s.call("POST", forgetPath, key, `{"user":"ada"}`), 401, "unauthorized")

	forgotten := s.want(s.call("POST", forgetPath, operatorKey, `{"user":"ada"}`, "Idempotency-Key", "f"), 200, "")
	if !strings.HasPrefix(forgotten.str("pseudonym"), "u_") || forgotten.str("erased") != "true" {
		t.Fatalf("forget: %s", forgotten.text)
	}
	if again := s.want(s.call("POST", forgetPath, operatorKey, `{"user":"ada"}`, "Idempotency-Key", "f"), 200, ""); again.text != forgotten.text {
		t.Errorf("forget, repeated: %s", again.text)
	}
	if nobody := s.want(s.call("POST", forgetPath, operatorKey, `{"user":"ada"}`), 200, ""); nobody.at("pseudonym") != nil {
		t.Errorf("forget who is forgotten: %s", nobody.text)
	}
	// The recorded answer to her acquire does not know her either.
	recorded := s.want(s.call("POST", acquirePath, key, holder("ada"), "Idempotency-Key", "a"), 201, "")
	if recorded.str("lease.id") != acquired.str("lease.id") || recorded.str("lease.user") != "" || recorded.str("lease.forgotten") != "[user]" {
		t.Errorf("the recorded answer: %s", recorded.text)
	}
	other := s.want(s.call("POST", acquirePath, key, holder("ada")), 201, "") // somebody else
	s.want(s.call("POST", heartbeatPath, key, lease(acquired.str("lease.id"))), 200, "")

	// The name cannot be erased for now: that is said, and done later.
	directory := s.store.Directory(0).(*eventstoretest.Log)
	directory.FailErase(errors.New("no"))
	if late := s.want(s.call("POST", forgetPath, operatorKey, `{"user":"ada"}`), 200, ""); late.str("erased") != "false" || late.at("pseudonym") == nil {
		t.Errorf("forget without erasing: %s", late.text)
	}
	if got := s.want(s.call("POST", heartbeatPath, key, lease(other.str("lease.id"))), 200, ""); got.str("lease.user") != "" {
		t.Errorf("her lease: %s", got.text)
	}
}

// What the journal keeps of a request with an Idempotency-Key cannot be compared with a guess of its body.
func TestFingerprintsTellNothingOfABody(t *testing.T) {
	t.Parallel()
	s := start(t, eventstoretest.NewStore(1))
	_, key := s.license("acme", 2, 300)
	fingerprints := map[string]bool{}
	for _, k := range []string{"one", "two"} {
		s.want(s.call("POST", acquirePath, key, holder("ada"), "Idempotency-Key", k), 200+1, "")
		last, err := s.store.Journal(0).Get(t.Context(), s.last())
		if err != nil {
			t.Fatal(err)
		}
		_, command, _ := strings.Cut(string(last.Body), `"command":"k.`)
		command, _, _ = strings.Cut(command, `"`)
		_, fingerprint, ok := strings.Cut(command, ".")
		if !ok || fingerprints[fingerprint] {
			t.Fatalf("the same body has the same fingerprint %q with another key", fingerprint)
		}
		fingerprints[fingerprint] = true
		s.want(s.call("POST", releasePath, key, lease(s.want(s.call("POST", acquirePath, key, holder("ada")), 200, "").str("lease.id"))), 200, "")
	}
}
