package access

import "github.com/coditect-ai/license-ledger/domain"

// Look is what the vendor's staff is about to read of a tenant. The query side says so to the command side, which records it.
type Look struct {
	Tenant     domain.TenantID `json:"tenant"`
	Permission Permission      `json:"permission"`
	Reason     string          `json:"reason"`
}

// A look goes over NATS as the body of a request on LooksSubject, with the ledger's seal of the body in HeaderSeal, and an Idempotency-Key that
// is the same for what is to be recorded once. HeaderStatus of the answer is the status that HTTP would have; a body is a problem, unless
// that is 200.
const (
	LooksSubject = "looks"
	HeaderSeal   = "Ledger-Seal"
	HeaderStatus = "Ledger-Status"
)
