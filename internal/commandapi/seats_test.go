package commandapi

import (
	"bytes"
	"testing"

	"github.com/coditect-ai/license-ledger/api"
)

// Each refusal has a status and a title, and the document names it.
func TestRefusalsAreInTheDocument(t *testing.T) {
	t.Parallel()
	if len(titles) != len(statuses) {
		t.Errorf("%d titles of %d refusals", len(titles), len(statuses))
	}
	for code := range statuses {
		if titles[code] == "" {
			t.Errorf("%s has no title", code)
		}
		if !bytes.Contains(api.Document, []byte("`"+string(code)+"`")) {
			t.Errorf("api/openapi.yaml does not name %s", code)
		}
	}
}
