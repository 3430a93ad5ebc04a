package eventstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/coditect-ai/license-ledger/domain"
)

// Writer is the single writer of one partition. Its one goroutine, Run, owns the partition's state in memory: it takes
// whatever commands have queued, decides them on state that already includes the ones before, stores their events as
// one commit, and answers each caller only after that commit is stored.
//
// Two Writers on one partition are safe: each append names the commit it follows, and taking over appends
// WriterEpochStarted, so that the older one's next append is refused. It then drops its state, reads the journal again
// and decides again what was not stored.
type Writer struct {
	partition Partition
	source    string
	journal   Log
	directory *Directory
	register  Register
	process   string
	alone     bool
	log       *slog.Logger
	metrics   *WriterMetrics
	tracer    *tracer

	urgent  *lane // commands that keep or free seats: taken first
	others  *lane
	waits   *lane         // acquires that wait for a seat
	awake   chan wakeUp   // those that are to wait no more
	stopped chan struct{} // closed when Run has returned
	leading chan struct{} // closed when the first take-over is stored
	once    sync.Once

	ownership ownership
	tenure    *tenure                           // while this Writer leads
	moving    atomic.Pointer[[]domain.TenantID] // while this Writer leads: State.moving
	stored    atomic.Pointer[Checkpoint]        // the last commit of this tenure that is known to be stored

	// Owned by Run.
	state     *State // nil: to be built anew
	snapshots *snapshotter
	clock     ledgerClock
	lastSign  time.Time        // of the owner before
	inFlight  []*pendingCommit // published, not answered; oldest first
	backlog   []*request       // taken from the queue, not decided yet
	waiting   waiting
	stopping  bool // whoever would wait is sent away
}

// How much a Writer takes on.
const (
	// openMax is how many commands may be open in each of a Writer's three lanes; beyond that they are refused as overloaded.
	openMax = 8192
	// inFlightMax is how many commits may be on their way on a log that takes several. Measured on one replica with an fsync per ack: 1, 4 and 8 in
	// flight give 2,700, 3,700 and 3,800 commits/s.
	inFlightMax = 4
	// commitFull is when a commit takes no further command, in bytes. The rest up to CommitMax is room for the largest
	// single command.
	commitFull = CommitMax - requestMax
	// requestMax is what the events of one command may take, in bytes.
	requestMax = 128 << 10
	// expireMax is how many leases of one tenant are expired in one step.
	expireMax = 200
	// drainFor is how long a Writer that was told to stop goes on answering.
	drainFor = 10 * time.Second
)

// The errors of Execute apart from a *domain.Rejection and what Prepare returns.
var (
	// ErrOverloaded: the queue is full. Nothing was done; try again later.
	ErrOverloaded = errors.New("too many commands are waiting")
	// ErrUnknown: the command may or may not have been done. Repeat it with the same Idempotency-Key.
	ErrUnknown = errors.New("outcome unknown")
	// ErrStopping: the Writer is stopping. Nothing was done.
	ErrStopping = errors.New("the service is stopping")
	// ErrElsewhere: another process owns the partition: see Ownership. Nothing was done.
	ErrElsewhere = errors.New("another process owns the partition")
	// ErrKeyReused: the Idempotency-Key came before with another request.
	ErrKeyReused = errors.New("idempotency key reused")
)

// Request is one command on its way to a Writer.
type Request struct {
	Tenant      domain.TenantID
	Actor       string // who asks, recorded in the events: "operator", "key:<id>"
	Traceparent string // W3C trace context; may be empty
	Idempotency *Idempotency
	// Urgent commands have a queue of their own, which is served first: heartbeats, because a client that is not heard
	// loses its seat, and releases, because they free one. A flood of acquires delays neither. Heartbeats that are urgent
	// and of one license become one event.
	Urgent bool
	// DryRun only decides: nothing is stored, and no Idempotency-Key remembered.
	DryRun bool
	// Wait is how long an AcquireSeat waits in the queue when there is no seat; 0: not at all. When it is over the rejection
	// tells the place, which is kept for 10 s for whoever asks for the same holder again. See ErrWaiting for a caller that
	// does not wait so long.
	Wait time.Duration
	// Prepare checks who asks and returns the command. It runs on the Writer's goroutine, with the state the command will
	// be decided on: it must be quick and change nothing. Its error is returned by Execute as it is.
	Prepare func(Scope) (domain.Command, error)
}

// Scope is what Prepare sees.
type Scope struct {
	Tenant *domain.Tenant
	// Now is the time of the decision.
	Now time.Time
	// Pseudonym returns what stands for a text, a new one if nothing does yet. In a dry run that one is not kept.
	Pseudonym func(kind NameKind, text string) domain.Pseudonym
	// Known returns what stands for a text; empty when nothing does.
	Known func(kind NameKind, text string) domain.Pseudonym
}

// Result is the answer to a command, and the position from which on its effect can be read.
type Result struct {
	Answer   domain.Answer
	Position Position
	Events   []domain.Event // of a DryRun: what the command would leave
}

// request is a Request with the caller that waits.
type request struct {
	Request
	ctx    context.Context
	result Result
	err    error
	done   chan struct{}
	lane   *lane
	queued time.Time
	taken  time.Time // when it was first looked at

	// Of one that waits. Owned by Run.
	waiter domain.Waiter // when it has waited
	parked bool          // it does now
	over   bool          // it is not to wait any more
}

func (r *request) finish(err error) {
	if err != nil {
		r.err = err
	}
	r.lane.open.Add(-1)
	close(r.done)
}

// lane is one of a Writer's three queues. What is open in it, accepted and not answered yet, is bounded wherever it is: in the
// queue, in the backlog, waiting for a seat, or held back by a commit in flight. So neither a flood nor an outage takes more
// memory than that, and however many wait for seats, the others are served.
type lane struct {
	queue chan *request // has room for all that may be open
	open  atomic.Int64
}

func newLane() *lane { return &lane{queue: make(chan *request, openMax)} }

// accept queues a request, unless too many are open.
func (l *lane) accept(r *request) bool {
	if l.open.Add(1) > openMax {
		l.open.Add(-1)
		return false
	}
	l.queue <- r
	return true
}

// pendingCommit is a commit on its way, with the callers that wait for it.
type pendingCommit struct {
	after    Place
	record   Record
	names    uint64     // the last record of the directory that it needs
	at       Checkpoint // once it is stored
	events   int
	outcome  <-chan error
	sent     time.Time
	requests []*request
}

// WriterConfig is what a Writer needs.
type WriterConfig struct {
	Partition Partition
	Store     Store
	Log       *slog.Logger
	Metrics   *WriterMetrics
	// Process is the name of the process, under which it owns partitions; default a random one.
	Process string
	// Alone says that no other process can be there: the partition is taken at once, whoever the record names.
	Alone bool
	// Now is the wall clock, which may jump; default time.Now.
	Now func() time.Time
	// Snapshots is the folder for snapshots, of this process alone; empty: every start reads the whole journal.
	Snapshots string
	// SnapshotEvery is how much is added to the journal between two rounds of a snapshot, in bytes; more, when the snapshot
	// itself is larger. Less makes starts quicker and writes more. Default 32 MiB: about half a second's worth of reading.
	SnapshotEvery int64
	// Tracer records traces of commands whose callers are traced, and of their commits; nil: none.
	Tracer trace.Tracer
}

// NewWriter returns a Writer that does nothing until Run. Errors: the folder for snapshots cannot be made.
func NewWriter(c WriterConfig) (*Writer, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	log := c.Log.With("partition", c.Partition)
	snapshots, err := newSnapshotter(c.Snapshots, cmp.Or(c.SnapshotEvery, snapshotEvery), c.Store.Info(), c.Partition, log)
	if err != nil {
		return nil, err
	}
	if c.Process == "" {
		c.Process = newID()
	}
	return &Writer{
		partition: c.Partition,
		source:    c.Store.Info().source(),
		journal:   c.Store.Journal(c.Partition),
		directory: NewDirectory(c.Store.Directory(c.Partition)),
		register:  c.Store.Owner(c.Partition),
		process:   c.Process,
		alone:     c.Alone,
		clock:     ledgerClock{wall: c.Now},
		log:       log,
		metrics:   c.Metrics,
		urgent:    newLane(),
		others:    newLane(),
		waits:     newLane(),
		awake:     make(chan wakeUp, openMax),
		stopped:   make(chan struct{}),
		leading:   make(chan struct{}),
		snapshots: snapshots,
		tracer:    newTracer(c.Tracer, c.Partition),
		ownership: ownership{changed: make(chan struct{})},
	}, nil
}

// Leading is closed once the Writer has first taken over.
func (w *Writer) Leading() <-chan struct{} { return w.leading }

// Ownership returns who owns the partition, and a channel that is closed when that changes.
func (w *Writer) Ownership() (Ownership, <-chan struct{}) { return w.ownership.get() }

// Directory returns the names of the partition. Only read it.
func (w *Writer) Directory() *Directory { return w.directory }

// Execute has a command done, and returns when its events are stored.
//
// Errors: *domain.Rejection, and then the Position in Result is still valid; ErrOverloaded, ErrStopping, ErrElsewhere; ErrUnknown when
// ctx ends first, or ErrWaiting or ErrStopping when that is why; ErrKeyReused; what Prepare returned; any other error: nothing
// was stored.
func (w *Writer) Execute(ctx context.Context, r Request) (Result, error) {
	waiting := &request{Request: r, ctx: ctx, done: make(chan struct{}), queued: time.Now()}
	waiting.lane = w.others
	var over <-chan time.Time
	switch {
	case r.Urgent:
		waiting.lane = w.urgent
	case r.Wait > 0:
		waiting.lane = w.waits
		timer := time.NewTimer(r.Wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-w.stopped:
		return Result{}, ErrStopping
	default:
	}
	if !waiting.lane.accept(waiting) {
		w.metrics.overloaded.Inc()
		return Result{}, ErrOverloaded
	}
	for {
		select {
		case <-waiting.done:
			return waiting.result, waiting.err
		case <-over:
			over = nil
			w.awaken(wakeUp{request: waiting})
		case <-ctx.Done():
			if r.Wait > 0 {
				w.awaken(wakeUp{request: waiting, gone: true, left: context.Cause(ctx) == context.Canceled})
			}
			return Result{}, endOf(ctx)
		case <-w.stopped:
			select {
			case <-waiting.done:
				return waiting.result, waiting.err
			default:
				return Result{}, ErrStopping // Run answers all it has taken before it returns: this one it never took
			}
		}
	}
}

// Run follows the partition's owner, and takes over and serves when there is none, until ctx ends; then it answers what
// was asked before, gives the partition up and returns nil. Any other return is an error that another start will not
// mend by itself: above all ErrChainBroken.
func (w *Writer) Run(ctx context.Context) error {
	defer close(w.stopped)
	defer w.giveUp()
	defer w.snapshots.drop()
	w.metrics.owner.WithLabelValues(w.label()).Set(0)
	for fails := 0; ; {
		err := w.follow(ctx)
		if err == nil {
			err = w.lead(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrChainBroken):
			return err
		case errors.Is(err, errLost):
			w.log.Warn("stepped down; following", "error", err)
		case errors.Is(err, ErrConflict):
			w.log.Warn("another writer took over; reading the journal again", "error", err)
			w.metrics.conflicts.Inc()
		default:
			w.log.Error("writer failed; reading the journal again", "error", err)
		}
		fails++
		// Two writers that both insist must not do so in step.
		pause(ctx, time.Duration(rand.Int64N(int64(min(50*fails, 1000))))*time.Millisecond)
	}
}

// lead takes the partition over and serves it until ctx ends (nil), or the tenure or the state is lost (an error).
func (w *Writer) lead(ctx context.Context) error {
	leading, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	// The record is renewed until the last answer is given, also when ctx has ended.
	keeping, done := context.WithCancel(context.WithoutCancel(ctx))
	var keep sync.WaitGroup
	keep.Go(func() { w.keep(keeping, lose) })
	keep.Go(func() { w.erase(keeping) })

	w.ownership.set(Ownership{Owner: w.process})
	err := w.takeOver(leading)
	if err == nil {
		w.waiting.begin(w.state)
		w.ownership.set(Ownership{Owner: w.process, Mine: true})
		w.metrics.owner.WithLabelValues(w.label()).Set(1)
		w.once.Do(func() { close(w.leading) })
		err = w.serve(leading)
	}
	done()
	keep.Wait()
	w.moving.Store(nil)
	w.ownership.set(Ownership{})
	w.metrics.owner.WithLabelValues(w.label()).Set(0)
	w.backlog = append(w.backlog, w.waiting.drop()...)
	w.metrics.waiting.WithLabelValues(w.label()).Set(0)
	if ctx.Err() != nil {
		if err := w.tenure.giveUp(context.WithoutCancel(ctx), *w.stored.Load()); err != nil {
			w.log.Warn("could not give the partition up; a standby takes it when it has waited", "error", err)
		}
		return err
	}
	if err != nil {
		w.state = nil // it may hold what was decided and is not stored
	}
	if lost := context.Cause(leading); lost != nil {
		err = lost
	}
	return err
}

// keep renews the tenure until ctx ends or another process has taken the partition.
func (w *Writer) keep(ctx context.Context, lose context.CancelCauseFunc) {
	for pause(ctx, renewEvery) {
		err := w.tenure.renew(ctx, *w.stored.Load())
		if errors.Is(err, errLost) {
			lose(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			// Appends go on as far as nobody takes over: the fence decides, not the record.
			w.log.Warn("cannot renew the ownership", "error", err)
		}
	}
}

// eraseAgain is how long after a failure erasing is tried again.
const eraseAgain = 5 * time.Second

// erase overwrites what is left of names that were deleted, until ctx ends.
func (w *Writer) erase(ctx context.Context) {
	owed := w.metrics.erasures.WithLabelValues(w.label())
	defer owed.Set(0) // whoever owns the partition next tells
	try := func() error {
		err := w.directory.Erase(ctx)
		owed.Set(float64(w.directory.Owed()))
		return err
	}
	for {
		for err := try(); err != nil && ctx.Err() == nil; err = try() {
			w.log.Error("a name that was deleted is still on the disk; trying again", "error", err)
			pause(ctx, eraseAgain)
		}
		select {
		case <-w.directory.owing:
		case <-ctx.Done():
			return
		}
	}
}

// confirm returns nil when this Writer still owned the partition after it was called. An answer that leaves no events
// needs it: nothing else would tell that the state it was read from is another's by now.
func (w *Writer) confirm() error {
	for began := time.Now(); !w.tenure.trusted(); {
		err := w.tenure.renew(context.Background(), *w.stored.Load())
		if errors.Is(err, errLost) || (err != nil && time.Since(began) > drainFor) {
			return fmt.Errorf("confirm the ownership: %w", err)
		}
		if err != nil {
			pause(context.Background(), pollEvery)
		}
	}
	return nil
}

// takeOver reads the journal to its end and appends WriterEpochStarted. Once that is stored, whatever an older writer,
// this one included, still has in flight can never be stored: what became of it is known.
func (w *Writer) takeOver(ctx context.Context) error {
	began := time.Now()
	if err := w.checkWitness(ctx); err != nil {
		return err
	}
	for {
		last, err := w.journal.Last(ctx)
		if err != nil {
			return fmt.Errorf("take over: %w", err)
		}
		if err := w.replay(ctx, last); err != nil {
			return fmt.Errorf("take over: %w", err)
		}
		if err := w.directory.Load(ctx); err != nil {
			return fmt.Errorf("take over: %w", err)
		}
		if known := w.directory.Seq(); known < w.state.names {
			return fmt.Errorf("take over: %w: the directory of partition %d ends at %d, but commits need its names up to %d: they were lost; restore the journal's data from a backup",
				ErrChainBroken, w.partition, known, w.state.names)
		}
		w.clock.start(w.state.Time)
		err = w.startEpoch(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrConflict) {
			return fmt.Errorf("take over: %w", err)
		}
		// Somebody else was first: read that, too.
	}
	if err := w.recordForgotten(ctx); err != nil {
		return fmt.Errorf("take over: record who was forgotten: %w", err)
	}
	w.log.Info("took over: this process owns the partition", "owner", w.process, "epoch", w.state.Epoch,
		"commits", w.state.Checkpoint.Seq, "tenants", len(w.state.tenants), "took", time.Since(began), "since_last_sign", time.Since(w.lastSign))
	w.metrics.takeOvers.Inc()
	w.metrics.takeOver.Observe(time.Since(w.lastSign).Seconds())
	return w.settleLost(ctx)
}

// replay folds the journal up to last, and says every few seconds how far it is.
func (w *Writer) replay(ctx context.Context, last uint64) error {
	const tell = 5 * time.Second
	began, told, from, seen := time.Now(), time.Now(), w.state.Checkpoint.Seq, w.state.events
	err := w.state.FoldUpTo(ctx, w.journal, last, func(at Checkpoint, _ Commit) {
		if at.Seq%256 != 0 && at.Seq != last {
			return
		}
		w.metrics.replayed.Add(float64(w.state.events - seen))
		w.metrics.behind.WithLabelValues(w.label()).Set(float64(last - at.Seq))
		seen = w.state.events
		if time.Since(told) > tell {
			told = time.Now()
			done := float64(at.Seq-from) / float64(last-from)
			w.log.Info("reading the journal", "commits", at.Seq, "of", last, "percent", int(100*done),
				"left", time.Duration(float64(time.Since(began))*(1/done-1)).Round(time.Second))
		}
	})
	w.metrics.replayed.Add(float64(w.state.events - seen))
	return err
}

// checkWitness checks that the journal holds what the owner before knew to be stored.
func (w *Writer) checkWitness(ctx context.Context) error {
	witness := *w.stored.Load()
	for began := time.Now(); ; {
		err := witness.Verify(ctx, w.journal)
		if err == nil {
			return nil
		}
		// A server that has just become the leader of a stream may still be about to apply its last commits.
		if w.alone || !errors.Is(err, ErrChainBroken) || time.Since(began) > appendTimeout || !pause(ctx, pollEvery) {
			return fmt.Errorf("partition %d lost commits that its last owner knew to be stored up to %d (bucket %s, key %s): %w",
				w.partition, witness.Seq, ownerBucket, ownerKey(w.partition), err)
		}
	}
}

// label is the partition as the metrics name it.
func (w *Writer) label() string { return strconv.Itoa(int(w.partition)) }

// startEpoch appends the commit that takes over, and returns when it is stored.
func (w *Writer) startEpoch(ctx context.Context) error {
	b := newCommitBuilder(w.source, w.commitTime())
	event := &WriterEpochStarted{Epoch: w.state.Epoch + 1, Writer: w.process}
	if err := b.addSystem(event); err != nil {
		return err
	}
	// It needs no names, and must not say that it knows newer ones: see recordForgotten.
	p, next := b.seal(w.state, event.Epoch, w.state.names)
	p.send(w.journal)
	if err := w.untilKnown(ctx, p); err != nil {
		return err
	}
	w.state.moveTo(p, next, b.at)
	w.stored.Store(&next)
	w.state.Epoch, w.state.EpochStart = event.Epoch, b.at
	return nil
}

// recordForgotten stores the events of names that were deleted by an owner that died before it could. Which those are, the
// commits tell: one that tells of a deletion also says that it knows the directory up to there, and none before it does.
func (w *Writer) recordForgotten(ctx context.Context) error {
	for _, f := range w.directory.forgottenAfter(w.state.names) {
		b := newCommitBuilder(w.source, w.commitTime())
		t := w.state.tenant(f.Tenant)
		event := &domain.PersonForgotten{Pseudonym: f.Pseudonym, Kind: string(f.Kind), Reason: f.Reason}
		if err := b.add(t, []domain.Event{event}, attributes{f.Actor, f.Command, f.Traceparent}); err != nil {
			return err
		}
		t.remember(f.Command, b.at, []domain.Event{event})
		w.state.put(t)
		p, next := b.seal(w.state, w.state.Epoch, f.Record)
		p.send(w.journal)
		if err := w.untilKnown(ctx, p); err != nil {
			return err
		}
		w.state.moveTo(p, next, b.at)
		w.stored.Store(&next)
	}
	w.directory.dropForgotten()
	return nil
}

// untilKnown appends p and stays with it until it is stored (nil), or another commit stands in its place (ErrConflict).
func (w *Writer) untilKnown(ctx context.Context, p *pendingCommit) error {
	for tries := 0; ; tries++ {
		var err error
		select {
		case err = <-p.outcome:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrConflict) {
			// Either it is ours, sent before and thought lost; or another writer's; or the conflict was with a commit that
			// is not stored yet and may never be.
			found, getErr := w.journal.Get(ctx, p.seq())
			switch {
			case getErr == nil && found.ID == p.record.ID:
				return nil
			case getErr == nil:
				return err
			}
		}
		w.log.Warn("outcome of a commit is unknown; sending the same bytes again", "seq", p.seq(), "tries", tries, "error", err)
		w.metrics.unknown.Inc()
		if !pause(ctx, min(20*time.Millisecond<<min(tries, 6), time.Second)) {
			return ctx.Err()
		}
		p.send(w.journal)
	}
}

// serve decides commands and answers them until ctx ends and all are answered (nil), or until the state is lost.
func (w *Writer) serve(ctx context.Context) error {
	w.state.moved = true // to be told anew
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	for {
		if w.state.moved {
			w.state.moved = false
			w.moving.Store(new(slices.Sorted(maps.Keys(w.state.moving))))
		}
		w.snapshots.advance(w.state, w.storedSeq())
		free := len(w.inFlight) < w.journal.InFlightMax()
		if free && w.enoughQueued() {
			if err := w.commit(w.takeQueued()); err != nil {
				return err
			}
			continue
		}
		var urgent, others, waits <-chan *request
		var due <-chan time.Time
		if free {
			urgent, others, waits = w.urgent.queue, w.others.queue, w.waits.queue
			due = w.armed(timer)
		}
		var outcome <-chan error
		if len(w.inFlight) > 0 {
			outcome = w.inFlight[0].outcome
		}
		if stop == nil && len(w.inFlight) == 0 && w.queued() == 0 {
			return nil // drained
		}
		select {
		case err := <-outcome:
			if err := w.settle(work, err); err != nil {
				return err
			}
		case r := <-urgent:
			w.backlog = append(w.backlog, r)
		case r := <-others:
			w.backlog = append(w.backlog, r)
		case r := <-waits:
			w.backlog = append(w.backlog, r)
		case k := <-w.awake:
			w.wake(k)
		case <-w.snapshots.wake():
		case <-due:
			if err := w.commit(w.absentees()); err != nil {
				return err
			}
		case <-stop:
			stop = nil
			time.AfterFunc(drainFor, cancel)
			if errors.Is(context.Cause(ctx), errLost) {
				continue // whoever waits is sent to the next owner
			}
			w.stopping = true
			for _, r := range w.waiting.drop() {
				r.finish(ErrStopping)
			}
		}
	}
}

// enoughQueued reports whether it is time for a commit: at once when none is on its way, else when at least as many commands
// wait as the last one took. Several small commits in flight cost more than they save: measured over HTTP with 128
// connections, one replica and two cores, a commit whenever fewer than four are in flight gave 8,500 requests/s, this 10,000.
func (w *Writer) enoughQueued() bool {
	if len(w.backlog) == 0 || len(w.inFlight) == 0 {
		return len(w.backlog) > 0
	}
	return len(w.backlog)+w.queued() >= len(w.inFlight[len(w.inFlight)-1].requests)
}

func (w *Writer) lanes() [3]*lane { return [...]*lane{w.urgent, w.others, w.waits} }

// queued is how many commands were not looked at yet.
func (w *Writer) queued() (n int) {
	for _, l := range w.lanes() {
		n += len(l.queue)
	}
	return n
}

// storedSeq is the last commit that is known to be stored.
func (w *Writer) storedSeq() uint64 {
	if len(w.inFlight) > 0 {
		return w.inFlight[0].after.Seq
	}
	return w.state.Checkpoint.Seq
}

// armed sets timer to when the next lease may run out, or somebody has been absent from a queue for too long, and returns its
// channel; nil when there is neither.
func (w *Writer) armed(timer *time.Timer) <-chan time.Time {
	lease, leases := w.state.nextDue()
	absence, absences := w.waiting.next()
	// A commit's time is in whole milliseconds, rounded down: wake in the one after.
	wait := lease.Sub(w.clock.now()) + time.Millisecond
	switch {
	case !leases && !absences:
		return nil
	case !leases:
		wait = time.Until(absence)
	case absences:
		wait = min(wait, time.Until(absence))
	}
	timer.Reset(max(0, wait))
	return timer.C
}

// takeQueued returns what has queued: the backlog, and what is in the queues right now.
func (w *Writer) takeQueued() []*request {
	taken := w.backlog
	w.backlog = nil
	for _, l := range w.lanes() {
		for range len(l.queue) {
			taken = append(taken, <-l.queue) // nobody else receives
		}
	}
	return taken
}

// settle learns the outcome of the oldest commit in flight.
func (w *Writer) settle(ctx context.Context, err error) error {
	p := w.inFlight[0]
	if err != nil {
		known := make(chan error, 1)
		known <- err
		p.outcome = known
		if err := w.untilKnown(ctx, p); err != nil {
			return err
		}
	}
	w.metrics.append.Observe(time.Since(p.sent).Seconds())
	w.inFlight = w.inFlight[1:]
	w.metrics.inFlight.WithLabelValues(w.label()).Set(float64(len(w.inFlight)))
	w.metrics.seats.WithLabelValues(w.label()).Set(float64(w.state.seats))
	w.stored.Store(&p.at)
	w.tracer.commit(p, p.seq())
	p.answer(w.partition, p.seq())
	return nil
}

// commit decides requests and publishes their events as one commit. What does not fit goes back to the backlog. Leases
// that ran out are expired first: while more of them are due than fit, no command is decided.
func (w *Writer) commit(requests []*request) error {
	b := newCommitBuilder(w.source, w.commitTime())
	moment := domain.Moment{At: b.at, Epoch: w.state.EpochStart}
	d := &decider{writer: w, builder: b, moment: moment}
	allExpired, err := w.expireDue(b, moment)
	if err == nil && allExpired {
		requests = d.decide(requests)
	}
	w.backlog = append(requests, w.backlog...)
	if err != nil {
		return err
	}
	for _, slice := range b.slices {
		w.call(slice.tenant, moment)
	}
	w.metrics.waiting.WithLabelValues(w.label()).Set(float64(w.waiting.parked))
	return w.publish(b, d)
}

// expireDue ends leases that ran out, and reports whether that is all of them.
func (w *Writer) expireDue(b *commitBuilder, moment domain.Moment) (bool, error) {
	for b.size < commitFull {
		t := w.state.takeDue(moment.At)
		if t == nil {
			return true, nil
		}
		events, err := domain.ExpireSeats{Max: expireMax}.Decide(t.Tenant, moment)
		if err == nil {
			err = b.add(t, events, attributes{actor: actorWriter})
		}
		if err != nil {
			return false, fmt.Errorf("expire leases of %s: %w", t.ID, err)
		}
		w.state.put(t)
	}
	return false, nil
}

// publish stores new names, sends the commit on its way and lets the callers wait for it.
func (w *Writer) publish(b *commitBuilder, d *decider) error {
	if b.size == 0 {
		// Nothing to store, so nothing that could be refused: also a commit in flight proves only that we owned the partition
		// when it was stored.
		if err := w.confirm(); err != nil {
			w.backlog = append(d.decided, w.backlog...)
			return err
		}
		// The answers wait for the commits that the decisions saw.
		if n := len(w.inFlight); n > 0 {
			w.inFlight[n-1].requests = append(w.inFlight[n-1].requests, d.decided...)
			return nil
		}
		nothing := &pendingCommit{requests: d.decided}
		w.tracer.commit(nothing, w.state.Checkpoint.Seq)
		nothing.answer(w.partition, w.state.Checkpoint.Seq)
		return nil
	}
	// The names come first. A crash in between leaves names that nothing uses; the other way round would leave a lease
	// whose holder nobody knows.
	if len(d.names) > 0 {
		if err := w.directory.Add(d.names); err != nil {
			w.backlog = append(d.decided, w.backlog...)
			return err
		}
	}
	// The name goes before the event that says so: whoever reads the event finds it gone.
	if d.forgotten != nil {
		if err := w.directory.Forget(context.Background(), *d.forgotten); err != nil {
			w.backlog = append(d.decided, w.backlog...)
			return err
		}
	}
	p, next := b.seal(w.state, w.state.Epoch, w.directory.Seq())
	w.state.moveTo(p, next, b.at)
	p.requests, p.at, p.events = d.decided, next, b.count
	p.send(w.journal)
	w.inFlight = append(w.inFlight, p)
	w.metrics.inFlight.WithLabelValues(w.label()).Set(float64(len(w.inFlight)))
	w.metrics.events.Observe(float64(b.count))
	w.metrics.bytes.Observe(float64(b.size))
	return nil
}

// commitTime is the time of the next commit: the clock, but never before the last commit.
func (w *Writer) commitTime() time.Time {
	now := w.clock.now().Truncate(time.Millisecond)
	if now.Before(w.state.Time) {
		return w.state.Time
	}
	return now
}

// giveUp answers whoever still waits when Run ends.
func (w *Writer) giveUp() {
	for _, p := range w.inFlight {
		for _, r := range p.requests {
			r.finish(ErrUnknown)
		}
	}
	for _, r := range w.backlog {
		r.finish(ErrStopping)
	}
	for {
		select {
		case r := <-w.urgent.queue:
			r.finish(ErrStopping)
		case r := <-w.others.queue:
			r.finish(ErrStopping)
		case r := <-w.waits.queue:
			r.finish(ErrStopping)
		default:
			return
		}
	}
}

// seq is where the commit will stand.
func (p *pendingCommit) seq() uint64 { return p.after.Seq + 1 }

func (p *pendingCommit) send(journal Log) {
	p.sent = time.Now()
	p.outcome = journal.Append(p.after, p.record)
}

// answer tells the callers that their events are stored at seq, or were before.
func (p *pendingCommit) answer(partition Partition, seq uint64) {
	for _, r := range p.requests {
		r.result.Position = Position{Partition: partition, Seq: seq}
		r.finish(nil)
	}
}

// pause waits for d and reports whether ctx is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// newID returns a UUIDv7: ids of one process sort by time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
