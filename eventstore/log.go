package eventstore

import (
	"context"
	"errors"
)

// Partition is the number of a partition: 0 … P-1.
type Partition uint16

// Place is where a record stands. The zero Place is before the first record.
type Place struct {
	Seq uint64
	ID  string
}

// Record is one message of a Log.
type Record struct {
	// ID tells this record from every other one: a UUID.
	ID string
	// Header holds what readers need before they open the body. Keys are matched by exact case.
	Header map[string]string
	Body   []byte
}

// Log is an append-only sequence of records: 1, 2, 3, … It is safe for concurrent use.
type Log interface {
	// Append stores r behind the record at after, and only if that is the last one, whole or not at all. It returns at
	// once; the outcome arrives on the channel, which has room for it. Appends are published in the order of the calls, so
	// a caller may keep up to InFlightMax in flight, each behind the one before.
	//
	// With several in flight the id counts as much as the sequence: the first may lose its place to another writer's record;
	// the sequence that the second expects is then there, but what it was decided on is not.
	//
	// Outcomes: nil, r is stored durably at after.Seq+1; ErrConflict, another record stands there, or one that was
	// published before and may yet vanish: Get tells; any other error: r may or may not be stored. Appending the same
	// record behind the same place again is safe: it is stored at most once.
	Append(after Place, r Record) <-chan error

	// InFlightMax is how many appends a caller may have in flight: 1 or more.
	InFlightMax() int

	// Read calls f with each record after sequence after, in order and without gaps but for what was erased, and waits for new ones until ctx
	// ends. It returns the error of f, of ctx, or of the log; never nil.
	Read(ctx context.Context, after uint64, f func(seq uint64, r Record) error) error

	// Last returns the sequence of the last record; 0 when the log is empty.
	Last(ctx context.Context) (uint64, error)

	// Get returns one record. Errors: ErrNoRecord when there is none with this sequence.
	Get(ctx context.Context, seq uint64) (Record, error)

	// Erase overwrites what is stored of a record, durably, for a log that may forget: Get finds none then, and Read passes over
	// its sequence. All others stay as they are, and so does Last: the last record must not be erased. A record that is not
	// there is erased already. A log that never forgets returns an error.
	Erase(ctx context.Context, seq uint64) error
}

// Store is a ledger as it is stored.
type Store interface {
	Info() LedgerInfo
	// Journal returns the commits of a partition.
	Journal(p Partition) Log
	// Directory returns the names behind the pseudonyms of a partition. It may forget: see Log.Erase.
	Directory(p Partition) Log
	// Owner returns the record of who owns a partition.
	Owner(p Partition) Register
}

// The errors of a Log that callers tell apart.
var (
	// ErrConflict: another writer appended first. Reload, then decide again.
	ErrConflict = errors.New("another writer appended first")
	// ErrNoRecord: nothing is stored at this sequence.
	ErrNoRecord = errors.New("no record at this sequence")
)
