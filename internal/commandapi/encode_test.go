package commandapi

import (
	"reflect"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
)

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
		got, err := encodeResults(outcomes)
		if err != nil || string(got) != string(want) {
			t.Fatalf("got  %s %v\nwant %s", got, err, want)
		}
	})
}

// Answers about one lease are written by hand, and are those of the document, whatever is in them or missing. Also of a field to come: it
// is filled here, and so found missing.
func TestLeasesAreTheDocuments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var acquired api.AcquireResponse
		fill(t, reflect.ValueOf(&acquired).Elem(), "acquired")
		if acquired.Features == nil {
			acquired.Features = []string{}
		}
		got, err := encodeAcquired(&acquired)
		sameJSON(t, got, err, acquired)

		var one api.LeasesResponse
		fill(t, reflect.ValueOf(&one).Elem(), "one")
		one.Results = nil
		if one.Lease == nil {
			one.Lease = &acquired.Lease
		}
		got, err = encodeLeases(&one)
		sameJSON(t, got, err, one)
	})
}

func sameJSON(t *rapid.T, got []byte, err error, v any) {
	want, wantErr := json.Marshal(v)
	if err != nil || wantErr != nil || string(got) != string(want) {
		t.Fatalf("got  %s %v\nwant %s %v", got, err, want, wantErr)
	}
}

// fill gives a value to v and all that is in it; now and then to a pointer none.
func fill(t *rapid.T, v reflect.Value, name string) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.UnixMilli(rapid.Int64Range(0, 2e12).Draw(t, name)).UTC()))
	case v.Kind() == reflect.Pointer:
		if rapid.IntRange(0, 3).Draw(t, name+" is there") > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), name)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), v.Type().Field(i).Name)
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 2).Draw(t, name+" length"), 2))
		for i := range v.Len() {
			fill(t, v.Index(i), name)
		}
	case v.Kind() == reflect.String:
		v.SetString(rapid.OneOf(rapid.String(), rapid.Just("\"<\u2028\\\n")).Draw(t, name))
	case v.Kind() == reflect.Float64: // seconds, of whole milliseconds
		v.SetFloat(float64(rapid.Int64Range(0, 1e9).Draw(t, name)) / 1000)
	case v.CanInt():
		v.SetInt(rapid.Int64Range(0, 1e9).Draw(t, name))
	case v.Kind() == reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, name))
	default:
		t.Fatalf("fill %s of type %v", name, v.Type())
	}
}
