package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// An export is text: a JSON object a line, each of which ends with its sum. The first is a Header; then come the slices, in order, one a
// line; then names, if any; the last is an End.
//
//	{"format":"ai.coditect.ledger.export.v1","ledger":…,"tenant":"acme",…,"sum":…}
//	{"seq":7,"head":…,"events":[…],"sum":…}
//	{"name":{"pseudonym":"u_…","text":"ada"},"sum":…}
//	{"end":{"slices":1,"events":3,"version":3,"seq":7,"head":…},"sum":…}
//
// The events are the bytes that are stored and hashed. The sum of a line is SHA-256 of the sum before it and the line up to
// its own sum: so damage is found in the line that has it. The head is the tenant's own link after the slice: it depends on
// nothing but the stored bytes, so whoever makes new sums cannot make the chain fit. A line of another kind, such as a signed
// checkpoint, is for a newer program: this one refuses it.

// Format names this version of the file.
const Format = "ai.coditect.ledger.export.v1"

// Header is the first line.
type Header struct {
	Format     string          `json:"format"`
	Ledger     string          `json:"ledger"`
	Tenant     domain.TenantID `json:"tenant"`
	Partition  uint16          `json:"partition"`
	ExportedAt time.Time       `json:"exported_at"`
	From       *time.Time      `json:"from,omitzero"` // the export was asked to begin here
	To         *time.Time      `json:"to,omitzero"`   // and to end here, exclusive
	After      uint64          `json:"after"`         // the version of the event before the first one here; 0: from the beginning
	Head       eventstore.Hash `json:"head"`          // of the chain there
}

// Name is what a pseudonym stood for when the export was made. Who was forgotten before has none.
type Name struct {
	Pseudonym domain.Pseudonym `json:"pseudonym"`
	Text      string           `json:"text"`
}

// End is the last line. Everything in it follows from the lines before.
type End struct {
	Slices  int             `json:"slices"`
	Events  int             `json:"events"`
	Version uint64          `json:"version"` // of the last event
	Seq     uint64          `json:"seq"`     // of the commit that holds it
	Head    eventstore.Hash `json:"head"`    // of the tenant's chain at the end
}

const (
	slicePrefix = `{"seq":`
	namePrefix  = `{"name":`
	endPrefix   = `{"end":`
	sumPrefix   = `,"sum":"`
	sumSuffix   = `"}`
	headLen     = 43
	sumLen      = len(sumPrefix) + headLen + len(sumSuffix)
)

// sealed appends the sum to an open line, one without its last brace, and returns it whole with the sum.
func sealed(open []byte, before eventstore.Hash) ([]byte, eventstore.Hash) {
	sum := before.Next(open)
	line := append(open, sumPrefix...)
	line = append(line, sum.String()...)
	return append(append(line, sumSuffix...), '\n'), sum
}

// unsealed checks the sum of a line, which comes without its end of line, and returns the line without it.
func unsealed(line []byte, before eventstore.Hash) ([]byte, eventstore.Hash, error) {
	cut := len(line) - sumLen
	if cut < 0 || !bytes.HasPrefix(line[cut:], []byte(sumPrefix)) || !bytes.HasSuffix(line, []byte(sumSuffix)) {
		return nil, eventstore.Hash{}, errors.New("it does not end with its sum")
	}
	var sum eventstore.Hash
	if err := sum.UnmarshalText(line[cut+len(sumPrefix) : len(line)-len(sumSuffix)]); err != nil {
		return nil, eventstore.Hash{}, fmt.Errorf("its sum cannot be read: %w", err)
	}
	if before.Next(line[:cut]) != sum {
		return nil, eventstore.Hash{}, errors.New("its sum is not that of its bytes: it was changed, or a line before it is missing, added or in another place")
	}
	return line[:cut], sum, nil
}

// openJSON returns a value as JSON without the last brace.
func openJSON(prefix string, value any) ([]byte, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if prefix == "" {
		return b[:len(b)-1], nil
	}
	return append([]byte(prefix), b...), nil
}

func openSlice(buffer []byte, seq uint64, head eventstore.Hash, stored []byte) []byte {
	buffer = strconv.AppendUint(append(buffer, slicePrefix...), seq, 10)
	buffer = append(append(append(buffer, `,"head":"`...), head.String()...), `","events":[`...)
	return append(append(buffer, stored...), ']')
}

// parseSlice reads an open line of a slice: strictly what openSlice writes.
func parseSlice(open []byte) (seq uint64, head eventstore.Hash, events []byte, err error) {
	rest := open[len(slicePrefix):]
	digits, rest, ok := bytes.Cut(rest, []byte(`,"head":"`))
	if ok {
		seq, err = strconv.ParseUint(string(digits), 10, 64)
	}
	if !ok || err != nil || len(rest) < headLen {
		return 0, head, nil, errors.New("it is not a slice as exports have them")
	}
	if err := head.UnmarshalText(rest[:headLen]); err != nil {
		return 0, head, nil, err
	}
	events, ok = bytes.CutPrefix(rest[headLen:], []byte(`","events":`))
	if !ok || !bytes.HasSuffix(events, []byte("]")) {
		return 0, head, nil, errors.New("it is not a slice as exports have them")
	}
	return seq, head, events, nil
}
