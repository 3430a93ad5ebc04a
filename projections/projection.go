package projections

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// Projection is one read model. Its tables have its name, or begin with it and an underscore; else a method Tables says which they
// are: a rebuild makes these again, and refuses to write to any other. One that counts the rows of others says so by a method CountsOn.
type Projection interface {
	// Name is the key of its checkpoints. It never changes.
	Name() string
	// Apply queues the statements that bring the rows from b.From to b.To: a handful per batch, not one per event. They run
	// in order, in the transaction that also moves the checkpoint. An error, or a statement that is refused, stops the
	// projector.
	Apply(b *Batch, q *pgx.Batch) error
}

// All returns every read model.
func All() []Projection {
	return []Projection{tenants{}, licenses{}, leases{}, seatCounts{}, auditEntries{}, directory{}, history{}, usage{}, queue{}, denials{}, members{}, tenantKeys{}}
}

// Commit is a commit of the journal with its events decoded.
type Commit struct {
	At        eventstore.Checkpoint // after it
	ID        string
	Directory uint64
	Time      time.Time
	Slices    []eventstore.Slice
	size      int64 // of its body, in bytes
	events    int
}

func decode(at eventstore.Checkpoint, c eventstore.Commit) (Commit, error) {
	slices, err := c.Decode()
	if err != nil {
		return Commit{}, fmt.Errorf("commit %d (%s): %w", at.Seq, c.ID, err)
	}
	decoded := Commit{
		At: at, ID: c.ID, Directory: c.Directory, Time: slices[0].Events[0].Time, Slices: slices, size: int64(len(c.Body)),
	}
	for _, s := range slices {
		decoded.events += len(s.Events)
	}
	return decoded, nil
}

// Batch is what one transaction applies: 1 or more commits of one partition, in order.
type Batch struct {
	Partition eventstore.Partition
	From      eventstore.Checkpoint // before the first commit
	Commits   []Commit
	// Names is what was added to the directory for these commits, oldest first, and Forgotten what was deleted from it.
	Names     []eventstore.Name
	Forgotten []eventstore.Forgotten

	next []func(*pgx.Batch) error
}

// Then has f queue more statements, to run after those that are queued now: for a projection that has to read rows before
// it knows what to write. Each such step is a round trip to the database, in the same transaction.
func (b *Batch) Then(f func(q *pgx.Batch) error) { b.next = append(b.next, f) }

// takeNext queues the next step; false when there is none.
func (b *Batch) takeNext(q *pgx.Batch) (bool, error) {
	steps := b.next
	b.next = nil
	for _, f := range steps {
		if err := f(q); err != nil {
			return false, err
		}
	}
	return len(steps) > 0, nil
}

// Last returns the last commit.
func (b *Batch) Last() Commit { return b.Commits[len(b.Commits)-1] }

// Place is where an event is stored.
type Place struct {
	Seq   uint64 // of its commit
	Index int    // in the commit, from 0
}

// Events yields the events of tenants, in order. Those of the system itself are in no read model.
func (b *Batch) Events() iter.Seq2[Place, *eventstore.Event] {
	return func(yield func(Place, *eventstore.Event) bool) {
		for _, c := range b.Commits {
			place := Place{Seq: c.At.Seq}
			for _, s := range c.Slices {
				for i := range s.Events { // not copied: each projection looks at all of them
					if s.Tenant != "" && !yield(place, &s.Events[i]) {
						return
					}
					place.Index++
				}
			}
		}
	}
}

// licenseKey and leaseKey name a row.
type (
	licenseKey struct {
		tenant  domain.TenantID
		license domain.LicenseID
	}
	leaseKey struct {
		tenant domain.TenantID
		lease  domain.LeaseID
	}
)

// ordered is a map that is walked in the order in which keys were first used: the same batch gives the same SQL.
type ordered[K comparable, V any] struct {
	values map[K]*V
	keys   []K
}

// at returns the value of k, new when there was none.
func (o *ordered[K, V]) at(k K) *V {
	if v := o.values[k]; v != nil {
		return v
	}
	if o.values == nil {
		o.values = map[K]*V{}
	}
	v := new(V)
	o.values[k] = v
	o.keys = append(o.keys, k)
	return v
}

func (o *ordered[K, V]) all() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) {
		for _, k := range o.keys {
			if !yield(k, o.values[k]) {
				return
			}
		}
	}
}

// change queues a statement that must change exactly n rows: otherwise rows and journal differ, and going on would hide
// it. Nothing is queued when n is 0.
func change(q *pgx.Batch, what string, n int, sql string, args ...any) {
	if n == 0 {
		return
	}
	q.Queue(sql, args...).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != int64(n) {
			return fmt.Errorf("%s: %d rows instead of %d: the rows are not what the journal before says; rebuild them",
				what, tag.RowsAffected(), n)
		}
		return nil
	})
}

// clean makes text fit for Postgres, which has no character zero. JSON does, and a fact is never refused.
func clean[S ~string](text S) string { return strings.ReplaceAll(string(text), "\x00", "\uFFFD") }
