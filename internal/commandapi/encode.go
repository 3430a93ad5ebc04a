package commandapi

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
)

// encodeAcquired returns what json.Marshal makes of r. This and encodeLeases are the answers of which there are thousands a second: by
// reflection each took 6 % of its request.
func encodeAcquired(r *api.AcquireResponse) ([]byte, error) {
	e := newEncoder()
	e.raw(`{"expires_in_seconds":`).seconds(r.ExpiresInSeconds)
	e.raw(`,"features":[`)
	for i, feature := range r.Features {
		e.comma(i).text(feature)
	}
	e.raw(`],"heartbeat_seconds":`).integer(int64(r.HeartbeatSeconds))
	e.raw(`,"lease":`).lease(&r.Lease)
	e.raw(`}`)
	return e.b, e.err
}

// encodeLeases returns what json.Marshal makes of r, which is about one lease: it has no results.
func encodeLeases(r *api.LeasesResponse) ([]byte, error) {
	e := newEncoder()
	e.raw(`{`)
	if r.ExpiresInSeconds != nil {
		e.raw(`"expires_in_seconds":`).seconds(*r.ExpiresInSeconds)
		e.raw(`,`)
	}
	if r.HeartbeatSeconds != nil {
		e.raw(`"heartbeat_seconds":`).integer(int64(*r.HeartbeatSeconds))
		e.raw(`,`)
	}
	e.raw(`"lease":`).lease(r.Lease)
	e.raw(`}`)
	return e.b, e.err
}

// encodeResults returns what json.Marshal makes of an api.LeasesResponse with a result per outcome. A request may name a
// thousand leases, and most of them end at the same instant: by reflection this took a third of the whole request.
func encodeResults(outcomes []domain.LeaseOutcome) ([]byte, error) {
	e := &encoder{b: make([]byte, 0, 64+80*len(outcomes))}
	e.raw(`{"results":[`)
	var end time.Time
	var endText []byte
	for i, o := range outcomes {
		e.comma(i).raw(`{`)
		switch {
		case o.Rejected != nil:
			e.raw(`"code":"`).raw(string(o.Rejected.Code)).raw(`",`)
		case o.State == domain.LeaseStateActive:
			if endText == nil || !o.ExpiresAt.Equal(end) {
				end = o.ExpiresAt
				endText = end.AppendFormat(append(endText[:0], `"expires_at":"`...), time.RFC3339Nano)
			}
			e.b = append(append(e.b, endText...), `",`...)
		}
		e.raw(`"lease":`).text(string(o.ID))
		if o.Rejected == nil && o.State != domain.LeaseStateActive {
			e.raw(`,"state":"`).raw(string(o.State)).raw(`"`)
		}
		e.raw(`}`)
	}
	e.raw(`]}`)
	return e.b, e.err
}

// encoder appends JSON. The first error stays: a text that is not UTF-8.
type encoder struct {
	b   []byte
	err error
}

func newEncoder() *encoder { return &encoder{b: make([]byte, 0, 512)} }

// lease appends the members in the order of the struct, as json.Marshal does.
func (e *encoder) lease(l *api.Lease) {
	e.raw(`{"acquired_at":`).time(l.AcquiredAt)
	e.flag(`,"borrowed":`, l.Borrowed)
	if l.EndedAt != nil {
		e.raw(`,"ended_at":`).time(*l.EndedAt)
	}
	e.raw(`,"expires_at":`).time(l.ExpiresAt)
	e.raw(`,"fence":`).integer(l.Fence)
	if l.Forgotten != nil && len(*l.Forgotten) > 0 {
		e.raw(`,"forgotten":[`)
		for i, kind := range *l.Forgotten {
			e.comma(i).text(string(kind))
		}
		e.raw(`]`)
	}
	e.raw(`,"id":`).text(l.Id)
	e.raw(`,"license":`).text(l.License)
	e.raw(`,"machine":`).text(l.Machine)
	e.flag(`,"overage":`, l.Overage)
	if l.Process != nil && *l.Process != "" {
		e.raw(`,"process":`).text(*l.Process)
	}
	e.raw(`,"state":`).text(string(l.State))
	e.raw(`,"user":`).text(l.User)
	e.raw(`}`)
}

func (e *encoder) raw(text string) *encoder {
	e.b = append(e.b, text...)
	return e
}

// comma separates item i of an array from the one before.
func (e *encoder) comma(i int) *encoder {
	if i > 0 {
		e.b = append(e.b, ',')
	}
	return e
}

func (e *encoder) text(s string) {
	b, err := jsontext.AppendQuote(e.b, s)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.b = b
}

func (e *encoder) flag(name string, value *bool) {
	if value != nil {
		e.raw(name)
		e.b = strconv.AppendBool(e.b, *value)
	}
}

func (e *encoder) integer(n int64) { e.b = strconv.AppendInt(e.b, n, 10) }

// seconds appends a length of time, which is in whole milliseconds.
func (e *encoder) seconds(s float64) { e.b = strconv.AppendFloat(e.b, s, 'f', -1, 64) }

func (e *encoder) time(t time.Time) {
	e.b = append(t.AppendFormat(append(e.b, '"'), time.RFC3339Nano), '"')
}
