package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// complete is a Log of which it is known that it has records up to last: Read ends with an error when one of them does not
// come. A server whose files are damaged counts records that it can not read, and a reader would wait for them for ever.
type complete struct {
	Log
	last uint64
	// holes says that records may have been erased; whether they were is for the caller to check.
	holes bool
}

// stallMax is how long a record that is there may take to come.
const stallMax = 5 * time.Second

// errReadEnough ends a Read that has a known end.
var errReadEnough = errors.New("read enough")

// Read implements Log. Errors: ErrChainBroken when a record up to last cannot be read; errReadEnough after last.
func (c complete) Read(ctx context.Context, after uint64, f func(uint64, Record) error) error {
	for after < c.last {
		reading, cancel := context.WithCancel(ctx)
		stalled := time.AfterFunc(stallMax, cancel)
		err := c.Log.Read(reading, after, func(seq uint64, r Record) error {
			stalled.Reset(stallMax)
			if err := f(seq, r); err != nil {
				return err
			}
			after = seq
			if seq >= c.last {
				return errReadEnough
			}
			return nil
		})
		stalled.Stop()
		quiet := reading.Err() != nil && ctx.Err() == nil
		cancel()
		if !quiet || errors.Is(err, errReadEnough) {
			return err
		}
		if err := c.readable(ctx, after+1); err != nil {
			return fmt.Errorf("%w: record %d of %d cannot be read (%w): the stream's files are damaged; restore them from a backup, in a cluster from another replica",
				ErrChainBroken, after+1, c.last, err)
		}
	}
	return errReadEnough
}

// ReadUpTo calls f with each record of a log after sequence after, in order, up to and including last, which the log has to reach; it passes
// over what was erased. It returns nil after that one, or the error of f.
//
// Errors: ErrChainBroken when a record that is there cannot be read.
func ReadUpTo(ctx context.Context, log Log, after, last uint64, f func(seq uint64, r Record) error) error {
	err := complete{Log: log, last: last, holes: true}.Read(ctx, after, f)
	if errors.Is(err, errReadEnough) {
		return nil
	}
	return err
}

// readable returns nil when the record at seq can be read; or, where there may be holes, one behind it.
func (c complete) readable(ctx context.Context, seq uint64) error {
	_, err := c.Log.Get(ctx, seq)
	for c.holes && errors.Is(err, ErrNoRecord) && seq < c.last {
		seq++
		_, err = c.Log.Get(ctx, seq)
	}
	return err
}
