package commandapi

import (
	"bytes"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
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

// The results are written by hand, and are those of the document.
func TestResultsAreTheDocuments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		outcome := rapid.Custom(func(t *rapid.T) domain.LeaseOutcome {
			o := domain.LeaseOutcome{ID: domain.LeaseID(rapid.OneOf(rapid.String(), rapid.Just(`"`)).Draw(t, "id"))}
			o.State = rapid.SampledFrom([]domain.LeaseState{domain.LeaseStateActive, domain.LeaseStateActive, domain.LeaseStateReleased}).Draw(t, "state")
			o.ExpiresAt = time.UnixMilli(rapid.Int64Range(0, 3).Draw(t, "end")).UTC()
			if rapid.IntRange(0, 3).Draw(t, "refused") == 0 {
				o.Rejected = &domain.Rejection{Code: domain.LeaseExpired}
			}
			return o
		})
		outcomes := rapid.SliceOfN(outcome, 1, 5).Draw(t, "outcomes")
		results := make([]api.LeaseResult, len(outcomes))
		for i, o := range outcomes {
			results[i].Lease = string(o.ID)
			switch {
			case o.Rejected != nil:
				code := string(o.Rejected.Code)
				results[i].Code = &code
			case o.State == domain.LeaseStateActive:
				results[i].ExpiresAt = &o.ExpiresAt
			default:
				state := api.LeaseState(o.State)
				results[i].State = &state
			}
		}
		want, err := json.Marshal(api.LeasesResponse{Results: &results})
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendResults(nil, outcomes)
		if err != nil || string(got) != string(want) {
			t.Fatalf("got  %s %v\nwant %s", got, err, want)
		}
	})
}
