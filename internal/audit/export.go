package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Slice is what one commit holds of the tenant.
type Slice struct {
	eventstore.Slice
	Seq uint64 // of the commit
}

// Exporter writes an export. A file without its end, because the writing was cut off, is known as such.
type Exporter struct {
	out    io.Writer
	header Header
	begun  bool
	sum    eventstore.Hash
	end    End
	buffer []byte
}

// NewExporter returns the writer of an export. Format, After and Head of the header are set by it.
func NewExporter(out io.Writer, h Header) *Exporter {
	h.Format = Format
	return &Exporter{out: out, header: h}
}

// Add writes a slice, the next one of the tenant. Errors: eventstore.ErrChainBroken when it does not follow from the one
// before: then the source is wrong, and no export of it may exist.
func (x *Exporter) Add(s Slice) error {
	first, last := s.Events[0], s.Events[len(s.Events)-1]
	switch {
	case s.Tenant != x.header.Tenant || first.Prev == nil:
		return fmt.Errorf("a slice of %q is in no export of %q", s.Tenant, x.header.Tenant)
	case bytes.IndexByte(s.Stored, '\n') >= 0:
		return fmt.Errorf("commit %d has a line break between its events: no program of this ledger writes one", s.Seq)
	case !x.begun:
		x.header.After, x.header.Head = first.Version-1, *first.Prev
		x.end.Version, x.end.Head = x.header.After, x.header.Head
		if err := x.begin(); err != nil {
			return err
		}
	}
	if *first.Prev != x.end.Head || first.Version != x.end.Version+1 || s.Seq <= x.end.Seq {
		return fmt.Errorf("%w: commit %d has version %d of %s after version %d of commit %d, and its link is %s, not %s",
			eventstore.ErrChainBroken, s.Seq, first.Version, s.Tenant, x.end.Version, x.end.Seq, *first.Prev, x.end.Head)
	}
	x.end = End{Slices: x.end.Slices + 1, Events: x.end.Events + len(s.Events), Version: last.Version, Seq: s.Seq, Head: s.Head()}
	return x.line(openSlice(x.buffer[:0], s.Seq, x.end.Head, s.Stored))
}

// Name writes what a pseudonym stands for: after the last slice, before Close.
func (x *Exporter) Name(n Name) error {
	if !x.begun {
		return errors.New("names come after slices")
	}
	open, err := openJSON(namePrefix, n)
	if err != nil {
		return err
	}
	return x.line(open)
}

// Close writes the end, and returns it. An export without slices has a header and an end.
func (x *Exporter) Close() (End, error) {
	if !x.begun {
		if err := x.begin(); err != nil {
			return End{}, err
		}
	}
	open, err := openJSON(endPrefix, x.end)
	if err != nil {
		return End{}, err
	}
	return x.end, x.line(open)
}

func (x *Exporter) begin() error {
	open, err := openJSON("", x.header)
	if err != nil {
		return err
	}
	x.begun = true
	return x.line(open)
}

func (x *Exporter) line(open []byte) error {
	x.buffer, x.sum = sealed(open, x.sum)
	_, err := x.out.Write(x.buffer)
	return err
}

// AddNames writes the names of pseudonyms that are known, in order.
func AddNames(x *Exporter, of map[domain.Pseudonym]bool, text func(domain.Pseudonym) string) error {
	for _, p := range slices.Sorted(maps.Keys(of)) {
		if known := text(p); known != "" {
			if err := x.Name(Name{p, known}); err != nil {
				return err
			}
		}
	}
	return nil
}
