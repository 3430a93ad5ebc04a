package projections

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// directoryReader reads the directory of a partition, some records of which were erased to forget a person. It is safe for
// concurrent use.
type directoryReader struct {
	log eventstore.Log

	mu       sync.Mutex
	read     uint64            // up to here it is known which records replace others
	replaced map[uint64]uint64 // the record that took the place of another
}

func newDirectoryReader(log eventstore.Log) *directoryReader {
	return &directoryReader{log: remoteLog{log, "the directory"}, replaced: map[uint64]uint64{}}
}

// between returns the names that were added, and deleted, after record after up to last, oldest first. Of a record that was erased
// it returns what is left of it.
//
// Errors: ErrChainBroken when the directory ends before last, or a record is missing that none replaces.
func (d *directoryReader) between(ctx context.Context, after, last uint64) (names []eventstore.Name, forgotten []eventstore.Forgotten, err error) {
	err = eachRecord(ctx, d.log, after, last, func(seq uint64, r *eventstore.Record) error {
		if r == nil {
			said, err := d.left(ctx, seq)
			// Whom it deletes stands where it stands.
			names = append(names, said.Names...)
			return err
		}
		said, err := decodeDirectory(seq, *r)
		names, forgotten = append(names, said.Names...), append(forgotten, said.Forgotten...)
		return err
	})
	return names, forgotten, err
}

// getsMax is how many records are asked for one by one: that is sooner done than to begin reading, which costs less for each.
const getsMax = 16

func directoryEnds(end, needed uint64) error {
	return fmt.Errorf("%w: it needs the names up to %d, but the directory ends at %d: restore the directory", eventstore.ErrChainBroken, needed, end)
}

// eachRecord calls f with each record of a directory after sequence after up to last; nil when it is not there. Errors: ErrChainBroken
// when the directory ends before last and many are asked for.
func eachRecord(ctx context.Context, directory eventstore.Log, after, last uint64, f func(seq uint64, r *eventstore.Record) error) error {
	if last-after > getsMax {
		end, err := directory.Last(ctx)
		if err != nil {
			return err
		}
		if end < last {
			return directoryEnds(end, last)
		}
		return eventstore.ReadUpTo(ctx, directory, after, last, func(seq uint64, r eventstore.Record) error {
			for after++; after < min(seq, last+1); after++ {
				if err := f(after, nil); err != nil {
					return err
				}
			}
			if seq > last {
				return nil
			}
			return f(seq, &r)
		})
	}
	for seq := after + 1; seq <= last; seq++ {
		r, err := directory.Get(ctx, seq)
		found := &r
		if errors.Is(err, eventstore.ErrNoRecord) {
			found, err = nil, nil
		}
		if err == nil {
			err = f(seq, found)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *directoryReader) get(ctx context.Context, seq uint64) (eventstore.DirectoryRecord, error) {
	record, err := d.log.Get(ctx, seq)
	if err != nil {
		return eventstore.DirectoryRecord{}, err
	}
	return decodeDirectory(seq, record)
}

func decodeDirectory(seq uint64, r eventstore.Record) (eventstore.DirectoryRecord, error) {
	said, err := eventstore.DecodeDirectory(r)
	if err != nil {
		return said, fmt.Errorf("directory record %d: %w", seq, err)
	}
	return said, nil
}

// left returns the record that took the place of one that is missing.
func (d *directoryReader) left(ctx context.Context, missing uint64) (eventstore.DirectoryRecord, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	end, err := d.log.Last(ctx)
	if err != nil {
		return eventstore.DirectoryRecord{}, err
	}
	for seq := d.read + 1; seq <= end; seq++ {
		said, err := d.get(ctx, seq)
		if err != nil && !errors.Is(err, eventstore.ErrNoRecord) {
			return eventstore.DirectoryRecord{}, err
		}
		for _, before := range said.Replaces {
			d.replaced[before] = seq
		}
		d.read = seq
	}
	for seq := missing; ; {
		by, known := d.replaced[seq]
		switch {
		case missing > end:
			return eventstore.DirectoryRecord{}, directoryEnds(end, missing)
		case !known:
			return eventstore.DirectoryRecord{}, fmt.Errorf("%w: record %d of the directory is missing and none replaces it: names were lost; restore the directory",
				eventstore.ErrChainBroken, seq)
		}
		said, err := d.get(ctx, by)
		if !errors.Is(err, eventstore.ErrNoRecord) {
			return said, err
		}
		seq = by // erased in its turn
	}
}
