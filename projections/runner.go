package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// Options is what a Runner needs.
type Options struct {
	// DB has the schema that Migrate makes. One connection per partition is in use at a time.
	DB    *pgxpool.Pool
	Store eventstore.Store
	// Projections is what to keep; nil means All.
	Projections []Projection
	// BatchMax is how many events one transaction applies at most, give or take a commit. It applies what is there, and waits for no more:
	// so batches are small, and seen at once, until the projector is behind. Larger ones catch up faster and take more memory. 0 means 20,000.
	BatchMax int
	// Park names projections that a commit they cannot apply sets aside, while the others go on. For every other projection such a
	// commit stops the Runner.
	Park []string
	// Publish tells live readers what a batch changed; nil tells nobody.
	Publish Publisher
	// Log; nil means slog.Default.
	Log *slog.Logger
	// Registerer of the metrics; nil means none.
	Registerer prometheus.Registerer
}

// Runner keeps the read models at the end of the journal.
type Runner struct {
	db          *pgxpool.Pool
	store       eventstore.Store
	projections []Projection
	batchMax    int
	park        []string
	publish     Publisher
	log         *slog.Logger
	metrics     *metrics
	directories []*directoryReader // by partition
	// tables says where the rows are; nil: in the schema "read".
	tables *tables

	mu     sync.Mutex
	away   map[part]error // what a partition waits for; nil once it is there
	rounds map[eventstore.Partition]roundOf
}

// roundOf is a round that is running: which projections are parked, and how to end it when that changes.
type roundOf struct {
	parked []string
	stop   func()
}

const batchMaxDefault = 20_000

// NewRunner returns a Runner that does nothing until Run.
func NewRunner(o Options) *Runner {
	r := &Runner{
		db: o.DB, store: o.Store, projections: o.Projections, batchMax: o.BatchMax, park: o.Park, publish: o.Publish, log: o.Log,
		away: map[part]error{}, rounds: map[eventstore.Partition]roundOf{},
	}
	if r.projections == nil {
		r.projections = All()
	}
	if r.batchMax == 0 {
		r.batchMax = batchMaxDefault
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	r.metrics = newMetrics(o.Registerer, r.projections, r.store.Info().Partitions)
	for p := range r.store.Info().Partitions {
		r.directories = append(r.directories, newDirectoryReader(r.store.Directory(eventstore.Partition(p))))
		r.setAway(eventstore.Partition(p), theRows, errors.New("not started"))
	}
	return r
}

// Run applies commits of all partitions as they come. It returns nil when ctx ends. While the database or the journal is
// away it waits for it.
//
// Errors, each of which needs a person: eventstore.ErrChainBroken; a commit that can not be decoded, or whose rows the
// database refuses, with its position. What came before it is applied.
func (r *Runner) Run(ctx context.Context) error {
	all, running := errgroup.WithContext(ctx)
	for p := range r.store.Info().Partitions {
		all.Go(func() error { return r.follow(running, eventstore.Partition(p), always) })
		all.Go(func() error { r.watchHead(running, eventstore.Partition(p)); return nil })
	}
	if err := all.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// CatchUp applies what the journal holds at the time of the call and returns. Errors: those of Run, and ctx.Err.
func (r *Runner) CatchUp(ctx context.Context) error {
	all, running := errgroup.WithContext(ctx)
	for p := range r.store.Info().Partitions {
		all.Go(func() error {
			head, err := r.store.Journal(eventstore.Partition(p)).Last(running)
			if err != nil {
				return err
			}
			return r.follow(running, eventstore.Partition(p), func(string) uint64 { return head })
		})
	}
	return all.Wait()
}

// Ready returns nil while every partition is being followed, otherwise why one is not.
func (r *Runner) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []error
	for p, err := range r.away {
		if err != nil {
			all = append(all, fmt.Errorf("partition %d: %w", p.partition, err))
		}
	}
	return errors.Join(all...)
}

// part is one of the two things that a partition needs; each is watched by a goroutine of its own.
type part struct {
	partition eventstore.Partition
	what      string
}

const (
	theRows    = "rows"
	theJournal = "journal"
)

func (r *Runner) setAway(p eventstore.Partition, what string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away[part{p, what}] = err
}

// headInterval is how often the end of the journal is asked for, for the lag.
const headInterval = time.Second

// watchHead keeps the lag and Ready true while no commits come: because there are none, or because the journal is away.
func (r *Runner) watchHead(ctx context.Context, p eventstore.Partition) {
	ticks := time.NewTicker(headInterval)
	defer ticks.Stop()
	for ctx.Err() == nil {
		head, err := remoteLog{r.store.Journal(p), "the journal"}.Last(ctx)
		r.setAway(p, theJournal, err)
		r.metrics.received(p, head)
		r.watchParked(ctx, p)
		select {
		case <-ctx.Done():
		case <-ticks.C:
		}
	}
}

// forever is an end that is never reached.
const forever = math.MaxUint64

// ends says up to which commit a projection, by its name, is to be brought.
type ends func(projection string) uint64

func always(string) uint64 { return forever }

// follow applies the commits of one partition up to their ends, until ctx ends or one can not be applied.
func (r *Runner) follow(ctx context.Context, p eventstore.Partition, end ends) error {
	err := insist(ctx,
		func() (bool, error) { return r.round(ctx, p, end) },
		func(wait time.Duration, err error) {
			r.setAway(p, theRows, err)
			r.log.WarnContext(ctx, "projection waits", "partition", p, "retry_in", wait, "error", err)
		})
	if err == nil || ctx.Err() != nil {
		return err
	}
	r.setAway(p, theRows, err)
	r.metrics.halted.Inc()
	r.log.ErrorContext(ctx, "projection stopped", "partition", p, "error", err)
	return fmt.Errorf("project partition %d: %w", p, err)
}

// aheadBytes is the room for commits that are not in the rows yet, for each event that a batch may take: enough for one batch that is
// written, one that is made, and one that is read. What they become in memory is some times as much.
const aheadBytes = 1 << 10

var (
	// errReached ends the reading of a round that comes to where other projections stand, or to an end.
	errReached = errors.New("reached the other projections")
	// errParked ends a round whose projections are not the same any more.
	errParked = errors.New("projections were parked, or go on")
)

// round runs the projections that are furthest behind: up to where the next ones stand, or, when all stand together,
// to their end or until something fails. It reports whether anything was applied.
func (r *Runner) round(ctx context.Context, p eventstore.Partition, end ends) (applied bool, err error) {
	at, err := r.loadCheckpoints(ctx, p)
	if err != nil {
		// Nothing but the checkpoints was asked for: unless the database refuses that, it is away.
		return false, dbError(err, !errors.Is(err, eventstore.ErrChainBroken))
	}
	r.metrics.standing(p, at)
	var parked []string
	var running, behind []Projection
	for _, projection := range r.projections {
		c := at[projection.Name()]
		if c.parked {
			parked = append(parked, projection.Name())
			continue
		}
		running = append(running, projection)
		if c.Seq < end(projection.Name()) {
			behind = append(behind, projection)
		}
	}
	if len(running) == 0 {
		return false, away("every projection", errors.New("parked; see: ledger projection list"))
	}
	r.setAway(p, theRows, nil)
	if len(behind) == 0 {
		return false, errEnd
	}
	g, err := lagging(behind, at)
	if err != nil {
		return false, err
	}
	g.live = len(g.projections) == len(running)
	for _, name := range g.names() {
		g.until = min(g.until, end(name))
	}

	ctx, stopWith := context.WithCancelCause(ctx)
	stop := func() { stopWith(nil) }
	r.setRound(p, roundOf{parked, func() { stopWith(errParked) }})
	defer func() {
		r.setRound(p, roundOf{})
		if err != nil && errors.Is(context.Cause(ctx), errParked) {
			err = nil // the next round finds out
		}
	}()
	queue := make(chan Commit, r.batchMax)
	room := semaphore.NewWeighted(max(eventstore.CommitMax, int64(r.batchMax)*aheadBytes))
	var readErr error
	go func() {
		defer close(queue)
		journal := remoteLog{r.store.Journal(p), "the journal"}
		readErr = eventstore.ReadCommits(ctx, journal, g.at.Checkpoint, func(at eventstore.Checkpoint, c eventstore.Commit) error {
			commit, err := decode(at, c)
			if err != nil {
				return &undecodableError{err}
			}
			if err := room.Acquire(ctx, commit.size); err != nil {
				return err
			}
			queue <- commit
			r.metrics.received(p, at.Seq)
			if at.Seq == g.until {
				return errReached
			}
			return nil
		})
	}()
	// Reading, making statements, and writing go on at the same time, each a batch ahead of the next.
	batches := make(chan prepared)
	idle := make(chan struct{}, 1) // holds something while nothing is written
	idle <- struct{}{}
	go func(g group) {
		defer close(batches)
		at := g.at
		for commits := take(queue, idle, r.batchMax); len(commits) > 0 && ctx.Err() == nil; commits = take(queue, idle, r.batchMax) {
			b := r.prepare(ctx, p, g, at, commits)
			at = b.after
			if batches <- b; b.err != nil {
				return
			}
		}
	}(g)
	ended := func() { // returns when nothing is being read any more
		for range batches {
		}
		for range queue {
		}
	}
	defer func() {
		stop()
		ended()
	}()

	for b := range batches {
		select {
		case <-idle:
		default: // the batch was full, and made before it was asked for
		}
		if err := r.apply(ctx, p, &g, b); err != nil {
			return applied, err
		}
		applied = true
		if b.err != nil {
			return applied, nil // it could be made in smaller pieces; what follows it was not made
		}
		for _, c := range b.Commits {
			room.Release(c.size)
		}
		idle <- struct{}{}
	}
	ended()
	// Whatever ended the reading, all that came before it is applied.
	var undecodable *undecodableError
	switch {
	case errors.Is(readErr, errReached):
		return applied, nil
	case errors.As(readErr, &undecodable) && r.mayPark(g.projections):
		return applied, r.parkAll(ctx, p, g, readErr)
	}
	return applied, readErr
}

func (r *Runner) setRound(p eventstore.Partition, round roundOf) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rounds[p] = round
}

// take waits for one commit and adds what comes, up to about limit events, until idle says that nothing is being written: a batch
// that was made any earlier would be written without what came meanwhile, and that would have to wait for two. It never
// waits to fill a batch that could be written. It returns none when the queue is closed and empty.
func take(queue <-chan Commit, idle <-chan struct{}, limit int) []Commit {
	first, ok := <-queue
	if !ok {
		return nil
	}
	commits, events := []Commit{first}, first.events
	for asked := false; events < limit; {
		var next Commit
		if !asked {
			select {
			case next, ok = <-queue:
			case <-idle:
				asked = true
				continue
			}
		} else {
			select {
			case next, ok = <-queue:
			default:
				return commits
			}
		}
		if !ok {
			return commits
		}
		commits, events = append(commits, next), events+next.events
	}
	return commits
}
