package eventstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

// errMyTurn ends following: the partition's record is claimed.
var errMyTurn = errors.New("my turn")

// follow keeps the state up to date while another process owns the partition, so that a take-over has little left to
// read. It returns nil once this Writer's tenure has begun.
func (w *Writer) follow(ctx context.Context) error {
	if w.state == nil {
		state, err := w.snapshots.load()
		if err != nil {
			return err
		}
		w.state = state
		w.log.Info("following", "from_snapshot", state.Checkpoint.Seq)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.followJournal(ctx) })
	g.Go(func() error { return w.followDirectory(ctx) })
	g.Go(func() error { return w.awaitTurn(ctx) })
	err := g.Wait()
	if errors.Is(err, errMyTurn) {
		return nil
	}
	return fmt.Errorf("follow: %w", err)
}

// followJournal folds what the owner stores.
func (w *Writer) followJournal(ctx context.Context) error {
	target, err := w.journal.Last(ctx)
	if err != nil {
		return err
	}
	for {
		if w.state.Checkpoint.Seq >= target {
			w.ownership.setFollowed()
		}
		var broken error
		err := ReadCommits(ctx, w.journal, w.state.Checkpoint, func(at Checkpoint, c Commit) error {
			before := w.state.events
			if broken = w.state.Fold(at, c); broken != nil {
				return broken
			}
			w.metrics.replayed.Add(float64(w.state.events - before))
			w.metrics.behind.WithLabelValues(w.label()).Set(float64(max(at.Seq, target) - at.Seq))
			w.snapshots.advance(w.state, at.Seq)
			if at.Seq >= target {
				w.ownership.setFollowed()
			}
			return nil
		})
		if broken != nil {
			w.state = nil // a fold that failed leaves it useless
			return broken
		}
		if ctx.Err() != nil || errors.Is(err, ErrChainBroken) {
			return err
		}
		w.log.Warn("cannot follow the journal; trying again", "error", err)
		pause(ctx, pollEvery)
	}
}

// followDirectory reads the names that the owner adds.
func (w *Writer) followDirectory(ctx context.Context) error {
	for {
		err := w.directory.follow(ctx)
		if ctx.Err() != nil {
			return err
		}
		w.log.Warn("cannot follow the directory; trying again", "error", err)
		pause(ctx, pollEvery)
	}
}

// awaitTurn watches the owner's record, refuses the commands that the owner has to be asked for, and returns errMyTurn
// when it has claimed the record: because it was given up, is this process's own, or has stood still for too long.
func (w *Writer) awaitTurn(ctx context.Context) error {
	patience := silenceMax + rand.N(silenceJitter)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	seen, moved := uint64(0), time.Now() // the last revision, and when it was first seen
	heard, elsewhere := false, false
	for {
		found, revision, err := readOwner(ctx, w.register)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			w.log.Warn("cannot read who owns the partition", "error", err)
			heard = false // a silence in which nothing could be heard tells nothing
		case !heard || revision != seen:
			heard, seen, moved = true, revision, time.Now()
		}
		if heard {
			if w.alone || found.Owner == "" || found.Owner == w.process || time.Since(moved) > patience {
				w.lastSign = moved
				tenure, err := claim(ctx, w.register, w.process, found, revision)
				if err == nil {
					w.tenure = tenure
					w.stored.Store(&found.Checkpoint)
					return errMyTurn
				}
				w.log.Info("did not get the partition", "error", err)
				heard = false
			} else {
				elsewhere = true
				if w.ownership.set(Ownership{Owner: found.Owner}) {
					w.log.Info("another process owns the partition", "owner", found.Owner, "since", found.Since)
				}
			}
		}
		if elsewhere {
			if err := w.settleLost(ctx); err != nil && ctx.Err() == nil {
				w.log.Warn("cannot read what became of commits in flight", "error", err)
			}
			w.refuse()
		}
		for waiting := true; waiting; {
			var r *request
			select {
			case r = <-w.urgent.queue:
			case r = <-w.others.queue:
			case r = <-w.waits.queue:
			case k := <-w.awake:
				k.request.over = k.request.over || !k.gone
			case <-poll.C:
				waiting = false
			case <-ctx.Done():
				return ctx.Err()
			}
			if r != nil {
				w.backlog = append(w.backlog, r)
				if elsewhere {
					w.refuse()
				}
			}
		}
	}
}

// refuse sends the callers whose commands are not decided yet to the owner.
func (w *Writer) refuse() {
	for _, r := range w.backlog {
		r.finish(ErrElsewhere)
	}
	w.backlog = nil
}

// settleLost finds out what became of the commits that were in flight when the tenure was lost. Where one was to stand
// another commit may stand by now: then it, and all behind it, can never be stored, and their commands are to be decided
// again.
func (w *Writer) settleLost(ctx context.Context) error {
	for len(w.inFlight) > 0 {
		p := w.inFlight[0]
		found, err := w.journal.Get(ctx, p.seq())
		if errors.Is(err, ErrNoRecord) {
			return nil // may be stored yet
		}
		if err != nil {
			return err
		}
		if found.ID == p.record.ID {
			p.answer(w.partition, p.seq())
			w.inFlight = w.inFlight[1:]
			continue
		}
		again := []*request{}
		for _, p := range w.inFlight {
			again = append(again, p.requests...)
		}
		w.inFlight, w.backlog = nil, append(again, w.backlog...)
	}
	return nil
}
