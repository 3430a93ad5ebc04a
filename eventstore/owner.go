package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Register holds one small value that changes by compare-and-swap. It is safe for concurrent use.
type Register interface {
	// Read returns the value and its revision; revision 0 when it was never written. A value may be read that is not the
	// newest: Write finds out.
	Read(ctx context.Context) (value []byte, revision uint64, err error)

	// Write replaces the value of that revision and returns the new revision.
	//
	// Errors: ErrConflict when the value has another revision; after any other error it may or may not be written.
	Write(ctx context.Context, value []byte, revision uint64) (uint64, error)
}

// OwnerRecord says which process owns a partition. It is a hint that saves two Writers from working against each other;
// what makes them safe is that each append names the commit it follows.
type OwnerRecord struct {
	Owner      string     `json:"owner"`   // name of the process; empty: given up
	Since      time.Time  `json:"since"`   // when it took the partition, by its clock; for people only
	Renewed    uint64     `json:"renewed"` // how often since then: a revision that stands still is a dead owner
	Checkpoint Checkpoint `json:"checkpoint"`
}

// How owners and standbys go about it. No clock is compared with another machine's: each counts its own monotonic time.
const (
	// renewEvery is how often an owner renews its record.
	renewEvery = time.Second
	// trustFor is how long after a renewal was sent its owner may be sure that nobody else took the partition: less than
	// standbys wait, who count from when they saw it.
	trustFor = 2 * time.Second
	// silenceMax is how long a record may stand still before a standby takes the partition. Up to silenceJitter more is
	// waited, so that several do not try at once.
	silenceMax    = 3 * time.Second
	silenceJitter = 300 * time.Millisecond
	// pollEvery is how often a standby reads the record.
	pollEvery = 200 * time.Millisecond
	// registerTimeout is how long one read or write of a record may take.
	registerTimeout = 1500 * time.Millisecond
)

// errLost: the record names another process.
var errLost = errors.New("another process owns the partition now")

// tenure is one process's hold on the record of a partition, from the claim to the loss. It is safe for concurrent use.
type tenure struct {
	register Register

	mu       sync.Mutex
	record   OwnerRecord
	revision uint64
	sent     time.Time // when the last successful write was sent
}

// claim takes a record of that revision for process. The witness in it stays what it was. Errors: those of Write.
func claim(ctx context.Context, register Register, process string, found OwnerRecord, revision uint64) (*tenure, error) {
	t := &tenure{register: register, revision: revision, record: OwnerRecord{
		Owner: process, Since: time.Now().UTC().Truncate(time.Millisecond), Checkpoint: found.Checkpoint,
	}}
	return t, t.write(ctx, t.record)
}

// renew writes the record with a newer checkpoint. Errors: errLost; any other: not known, try again.
func (t *tenure) renew(ctx context.Context, at Checkpoint) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.record
	next.Renewed++
	next.Checkpoint = at
	err := t.write(ctx, next)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	// Another's, or our own that was thought lost.
	found, revision, err := readOwner(ctx, t.register)
	if err != nil {
		return err
	}
	if found.Owner != t.record.Owner {
		t.sent = time.Time{} // whoever took it did not wait
		return errLost
	}
	t.revision = revision
	return t.write(ctx, next)
}

// giveUp leaves the partition to whoever comes first.
func (t *tenure) giveUp(ctx context.Context, at Checkpoint) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.write(ctx, OwnerRecord{Since: t.record.Since, Renewed: t.record.Renewed, Checkpoint: at})
}

// trusted reports whether nobody else can have taken the partition yet.
func (t *tenure) trusted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.sent) < trustFor
}

func (t *tenure) write(ctx context.Context, next OwnerRecord) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	value, err := json.Marshal(next)
	if err != nil {
		return err
	}
	sent := time.Now()
	revision, err := t.register.Write(ctx, value, t.revision)
	if err != nil {
		return err
	}
	t.record, t.revision, t.sent = next, revision, sent
	return nil
}

func readOwner(ctx context.Context, register Register) (OwnerRecord, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	value, revision, err := register.Read(ctx)
	if err != nil || revision == 0 {
		return OwnerRecord{}, 0, err
	}
	var found OwnerRecord
	if err := json.Unmarshal(value, &found); err != nil {
		return OwnerRecord{}, 0, fmt.Errorf("owner record: %w", err)
	}
	return found, revision, nil
}

// Ownership is what a Writer knows of who owns its partition.
type Ownership struct {
	Owner string // name of the process; empty: nobody, or not known yet
	Mine  bool   // this Writer has taken over and serves
}

// ownership is an Ownership that can be waited on.
type ownership struct {
	mu       sync.Mutex
	now      Ownership
	followed bool          // what the journal held when it was first looked at has been read
	changed  chan struct{} // closed and replaced when now changes
}

func (o *ownership) get() (Ownership, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now, o.changed
}

// set notes who owns the partition and reports whether that is new.
func (o *ownership) set(now Ownership) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now == now {
		return false
	}
	o.now = now
	close(o.changed)
	o.changed = make(chan struct{})
	return true
}

func (o *ownership) setFollowed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.followed = true
}

// ready returns nil when commands for the partition find their way: they are decided here, by the process self, or this
// Writer could take over at once from the owner that it knows.
func (o *ownership) ready(self string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.now.Mine:
		return nil
	case !o.followed:
		return errors.New("still reading its journal")
	case o.now.Owner == "":
		return errors.New("has no owner")
	case o.now.Owner == self:
		return errors.New("is being taken over")
	}
	return nil
}

// ownerMetrics are the metrics of who owns what.
type ownerMetrics struct {
	owner    *prometheus.GaugeVec
	takeOver prometheus.Histogram
}

func newOwnerMetrics(registry prometheus.Registerer) ownerMetrics {
	m := ownerMetrics{
		owner: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ledger_owner", Help: "1 if this process owns the partition, else 0. Over all processes the sum of each partition is 1."}, []string{"partition"}),
		takeOver: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ledger_take_over_seconds", Help: "Time from the last sign of the former owner until this process serves the partition.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 14)}),
	}
	registry.MustRegister(m.owner, m.takeOver)
	return m
}
