package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Options is what a Verify can be given beyond the file.
type Options struct {
	// Tenant whose export it should be; empty: whichever it is of.
	Tenant domain.TenantID
	// Head that the tenant's chain should have at the end, from a source that the file's maker does not control: an earlier
	// export, a note, the ledger itself. Zero: none is known, and then a history that was written anew as a whole passes.
	Head eventstore.Hash
	// Begin is called with the header, before anything else; nil: nobody asks.
	Begin func(Header)
	// Each is called with every slice that was found right, in order; an error ends the reading. Nil: nobody asks.
	Each func(Slice) error
	// Read is called now and then with how many bytes were read.
	Read func(bytes int64)
}

// Report is what a file that was found right holds.
type Report struct {
	Header Header
	End    End
	// First and Last are the times of the first and last event; zero when there is none.
	First, Last time.Time
	// Types counts the events by type.
	Types map[string]int
	// Names is what pseudonyms stood for when the file was made, of those that were exported with it.
	Names []Name
	// Tenant is what the events add up to; nil when the file does not begin with the first event.
	Tenant *domain.Tenant
}

// BadError says where an export is wrong first, and how.
type BadError struct {
	Line    int    // of the file, from 1
	Seq     uint64 // of the last commit that was found right; 0: none
	Version uint64 // of the last event that was found right; 0: none
	Why     string
}

// Error names the place.
func (e *BadError) Error() string {
	if e.Version == 0 {
		return fmt.Sprintf("line %d is wrong: %s", e.Line, e.Why)
	}
	return fmt.Sprintf("line %d is wrong, after version %d in commit %d: %s", e.Line, e.Version, e.Seq, e.Why)
}

// lineMax is the longest line that is read: a commit, and what is around it.
const lineMax = eventstore.CommitMax + 4<<10

// Verify reads an export to its end and checks all of it: sums, chain, versions, and that the events obey the rules of the
// domain. It needs nothing but the file.
//
// Errors: *BadError for the first thing that is wrong; that of Options.Each; one of reading.
func Verify(file io.Reader, o Options) (Report, error) {
	v := verifier{o: o, report: Report{Types: map[string]int{}}}
	lines := bufio.NewReaderSize(file, lineMax)
	for {
		line, err := lines.ReadSlice('\n')
		v.line++
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return v.report, v.bad("it is longer than any commit")
		case errors.Is(err, io.EOF) && len(line) == 0 && v.ended:
			return v.report, nil
		case errors.Is(err, io.EOF) && len(line) == 0:
			return v.report, v.bad("the file ends here, without its end line: it was cut off")
		case errors.Is(err, io.EOF):
			return v.report, v.bad("it has no end: the file was cut off")
		case err != nil:
			return v.report, err
		case v.ended:
			return v.report, v.bad("something follows the end line")
		}
		v.bytes += int64(len(line))
		if o.Read != nil {
			o.Read(v.bytes)
		}
		if err := v.take(line[:len(line)-1]); err != nil {
			return v.report, err
		}
	}
}

type verifier struct {
	o      Options
	report Report
	sum    eventstore.Hash
	line   int
	bytes  int64
	ended  bool
}

func (v *verifier) bad(format string, args ...any) error {
	return &BadError{Line: v.line, Seq: v.report.End.Seq, Version: v.report.End.Version, Why: fmt.Sprintf(format, args...)}
}

func (v *verifier) take(line []byte) error {
	open, sum, err := unsealed(line, v.sum)
	if err != nil {
		return v.bad("%v", err)
	}
	v.sum = sum
	switch {
	case v.line == 1:
		return v.header(open)
	case bytes.HasPrefix(open, []byte(slicePrefix)) && len(v.report.Names) == 0:
		return v.slice(open)
	case bytes.HasPrefix(open, []byte(namePrefix)):
		return v.name(open[len(namePrefix):])
	case bytes.HasPrefix(open, []byte(endPrefix)):
		return v.end(open)
	}
	return v.bad("it is of a kind that this program does not know, or not in its place; a newer program may have written it: upgrade this one")
}

func (v *verifier) header(open []byte) error {
	h := &v.report.Header
	if err := json.Unmarshal(append(bytes.Clone(open), '}'), h, json.RejectUnknownMembers(true)); err != nil || h.Format != Format {
		return v.bad("it is no header of an export of the format %s", Format)
	}
	if v.o.Tenant != "" && h.Tenant != v.o.Tenant {
		return v.bad("the export is of the tenant %q, not of %q", h.Tenant, v.o.Tenant)
	}
	if again, err := openJSON("", h); err != nil || !bytes.Equal(again, open) {
		return v.bad("it is not written as headers are")
	}
	if !domain.HasChain(h.Tenant) || (h.After == 0) != (h.Head == eventstore.Hash{}) {
		return v.bad("it contradicts itself")
	}
	v.report.End = End{Version: h.After, Head: h.Head}
	if h.After == 0 {
		v.report.Tenant = domain.NewTenant(h.Tenant)
	}
	if v.o.Begin != nil {
		v.o.Begin(*h)
	}
	return nil
}

func (v *verifier) slice(open []byte) error {
	seq, head, events, err := parseSlice(open)
	if err != nil {
		return v.bad("%v", err)
	}
	// What it holds is kept by others; the line is not.
	slices, err := eventstore.Commit{Body: bytes.Clone(events)}.Decode()
	if err != nil {
		return v.bad("%v", err)
	}
	s, end := Slice{slices[0], seq}, &v.report.End
	first, last := s.Events[0], s.Events[len(s.Events)-1]
	switch {
	case len(slices) > 1 || s.Tenant != v.report.Header.Tenant:
		return v.bad("it holds events that are not of the tenant %s", v.report.Header.Tenant)
	case len(s.Stored)+2 != len(events):
		return v.bad("it holds more than its events")
	case first.Version != end.Version+1:
		return v.bad("version %d follows version %d: events are missing, repeated or out of order", first.Version, end.Version)
	case seq <= end.Seq:
		return v.bad("commit %d follows commit %d", seq, end.Seq)
	case *first.Prev != end.Head:
		return v.bad("its first event follows the head %s, not %s: this slice or one before it was changed", *first.Prev, end.Head)
	case s.Head() != head:
		return v.bad("its events give the head %s, not %s", s.Head(), head)
	case first.Time.Before(v.report.Last):
		return v.bad("it is of %s, before the one before it", first.Time)
	}
	if err := v.fold(s); err != nil {
		return v.bad("%v", err)
	}
	if v.report.First.IsZero() {
		v.report.First = first.Time
	}
	v.report.Last = last.Time
	*end = End{Slices: end.Slices + 1, Events: end.Events + len(s.Events), Version: last.Version, Seq: seq, Head: head}
	for _, e := range s.Events {
		v.report.Types[e.Type]++
	}
	if v.o.Each != nil {
		return v.o.Each(s)
	}
	return nil
}

// fold applies the events, of which none may break an invariant.
func (v *verifier) fold(s Slice) (err error) {
	if v.report.Tenant == nil {
		return nil
	}
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("the events cannot have happened: %v", broken)
		}
	}()
	for _, e := range s.Events {
		v.report.Tenant.Apply(e.Time, e.Data)
	}
	return nil
}

func (v *verifier) name(value []byte) error {
	var n Name
	if err := json.Unmarshal(value, &n, json.RejectUnknownMembers(true)); err != nil || n.Pseudonym == "" {
		return v.bad("it is no name")
	}
	v.report.Names = append(v.report.Names, n)
	return nil
}

func (v *verifier) end(open []byte) error {
	want, err := openJSON(endPrefix, v.report.End)
	if err != nil {
		return err
	}
	if !bytes.Equal(open, want) {
		return v.bad("it says %s}, but the lines before it add up to %s}: some are missing or were added", open, want)
	}
	if v.o.Head != (eventstore.Hash{}) && v.report.End.Head != v.o.Head {
		return v.bad("the chain ends with the head %s, not with %s: this is another history", v.report.End.Head, v.o.Head)
	}
	v.ended = true
	return nil
}
