package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// RestoredPartition is what Restore found and did in one partition.
type RestoredPartition struct {
	Partition Partition
	// Had and Commits are how many commits the journal had, and has now. Names and HadNames are the same for the directory.
	Had, Commits    uint64
	HadNames, Names uint64
	// Time is that of the last commit; zero when there is none, or its body cannot be read.
	Time time.Time
	// Known is the last commit of which the record of owners says that it was stored; zero when there is no record. What it has beyond
	// Commits was acknowledged and is lost.
	Known Checkpoint
}

// ErrDiverged: the journal and its copy have different records at the same place. One of them is not of this history.
var ErrDiverged = errors.New("journal and copy differ")

// Restore adds to a ledger what a copy of it has and it lacks: the records, with their ids, headers and bytes, so that every hash and
// position is what it was. What is there is checked link by link, and never changed. It may be called again after it died.
//
// No Writer may be at work: it would append in between, and then this ends with ErrConflict.
//
// Errors: ErrDiverged; ErrChainBroken, when a chain does not hold.
func Restore(ctx context.Context, from, to Store, progress func(done, total uint64)) ([]RestoredPartition, error) {
	if from.Info().ID != to.Info().ID || from.Info().Partitions != to.Info().Partitions {
		return nil, fmt.Errorf("%w: the copy is of the ledger %s with %d partitions, the journal of %s with %d",
			ErrDiverged, from.Info().ID, from.Info().Partitions, to.Info().ID, to.Info().Partitions)
	}
	var done, total uint64
	if err := from.Info().All(func(p Partition) error {
		commits, err := from.Journal(p).Last(ctx)
		names, err2 := from.Directory(p).Last(ctx)
		total += commits + names
		return errors.Join(err, err2)
	}); err != nil {
		return nil, err
	}
	step := func(n uint64) {
		if done += n; progress != nil {
			progress(done, total)
		}
	}
	var all []RestoredPartition
	err := from.Info().All(func(p Partition) error {
		r := RestoredPartition{Partition: p}
		var err error
		// Names first: a commit may need them.
		if r.HadNames, r.Names, err = restoreLog(ctx, from.Directory(p), to.Directory(p), step); err != nil {
			return fmt.Errorf("directory of partition %d: %w", p, err)
		}
		if r.Had, r.Commits, err = restoreLog(ctx, from.Journal(p), to.Journal(p), step); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
		if err := ReadCommitsUpTo(ctx, to.Journal(p), Checkpoint{}, r.Commits, func(at Checkpoint, c Commit) error {
			if at.Seq == r.Commits {
				if slices, err := c.Attributes(); err == nil {
					r.Time = slices[0].Events[0].Time
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("partition %d, which was restored: %w", p, err)
		}
		owner, _, err := readOwner(ctx, to.Owner(p))
		if err != nil {
			return fmt.Errorf("owner of partition %d: %w", p, err)
		}
		r.Known = owner.Checkpoint
		all = append(all, r)
		return nil
	})
	return all, err
}

// restoreLog appends what from has behind the end of to. It returns how many records there were, and are now.
func restoreLog(ctx context.Context, from, to Log, step func(uint64)) (had, has uint64, err error) {
	end, err := from.Last(ctx)
	if err != nil {
		return 0, 0, err
	}
	if had, err = to.Last(ctx); err != nil {
		return 0, 0, err
	}
	after := Place{Seq: had}
	if shared := min(had, end); shared > 0 {
		// The last record that both have: of a chain it vouches for all before it.
		here, err := to.Get(ctx, shared)
		there, err2 := from.Get(ctx, shared)
		if err != nil && !errors.Is(err, ErrNoRecord) || err2 != nil && !errors.Is(err2, ErrNoRecord) {
			return had, had, errors.Join(err, err2)
		}
		if err == nil && err2 == nil && (here.ID != there.ID || string(here.Body) != string(there.Body)) {
			return had, had, fmt.Errorf("%w: at %d the journal has the record %s, the copy has %s: another history was written after a loss, "+
				"or one of them was changed; keep both, and let a person decide", ErrDiverged, shared, here.ID, there.ID)
		}
		after.ID = here.ID
	}
	step(min(had, end))
	var flying []<-chan error
	settle := func(atMost int) error {
		for len(flying) > atMost {
			if err := <-flying[0]; err != nil {
				return err
			}
			flying = flying[1:]
			step(1)
		}
		return nil
	}
	add := func(r Record) error {
		if err := settle(to.InFlightMax() - 1); err != nil {
			return err
		}
		flying = append(flying, to.Append(after, r))
		after = Place{Seq: after.Seq + 1, ID: r.ID}
		return nil
	}
	for after.Seq < end {
		err := from.Read(ctx, after.Seq, func(seq uint64, r Record) error {
			for after.Seq+1 < min(seq, end+1) {
				if err := add(erasedRecord()); err != nil {
					return err
				}
			}
			if seq <= end {
				if err := add(r); err != nil {
					return err
				}
			}
			if seq >= end {
				return errReadEnough
			}
			return nil
		})
		if !errors.Is(err, errReadEnough) {
			return had, had, err
		}
	}
	if err := settle(0); err != nil {
		return had, had, err
	}
	has, err = to.Last(ctx)
	return had, has, err
}

// erasedRecord stands where the copy has a record no more, because the names in it were forgotten: it holds none.
func erasedRecord() Record {
	return Record{ID: uuid.NewString(), Header: map[string]string{headerContentType: "application/json"}, Body: []byte("[]")}
}

// RestoreNATS opens the ledger info in the JetStream of nc, and makes what is missing of it: streams, which are empty then, and the
// record that says that it is one. Restore fills them. Errors: another ledger is there.
func RestoreNATS(ctx context.Context, nc *nats.Conn, info LedgerInfo, replicas int) (*NATSStore, error) {
	js, err := newJetStream(nc)
	if err != nil {
		return nil, err
	}
	found, err := readInfo(ctx, js)
	switch {
	case err == nil && found.ID != info.ID:
		return nil, fmt.Errorf("%w: the ledger %s is there, not %s", ErrDiverged, found.ID, info.ID)
	case err != nil && !errors.Is(err, ErrNoLedger):
		return nil, err
	}
	if err := info.All(func(p Partition) error {
		for _, cfg := range streamConfigs(info, p, replicas) {
			stream, err := js.Stream(ctx, cfg.Name)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				if stream, err = js.CreateStream(ctx, cfg); err == nil {
					_, err = js.UpdateStream(ctx, cfg) // see createBucket
				}
			}
			if err != nil {
				return fmt.Errorf("make %s: %w", cfg.Name, err)
			}
			if id := stream.CachedInfo().Config.Metadata[metadataLedger]; id != info.ID {
				return fmt.Errorf("%w: the stream %s is of the ledger %s, not %s", ErrDiverged, cfg.Name, id, info.ID)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := recordLedger(ctx, js, info, replicas); err != nil {
		return nil, err
	}
	return JoinNATS(ctx, nc)
}

// AcceptLoss makes the record of a partition's owner forget the commits that the journal has not: Writers begin where it ends.
func AcceptLoss(ctx context.Context, store Store, p Partition) error {
	found, revision, err := readOwner(ctx, store.Owner(p))
	if err != nil || revision == 0 {
		return err
	}
	last, err := store.Journal(p).Last(ctx)
	if err != nil || found.Checkpoint.Seq <= last {
		return err
	}
	t := tenure{register: store.Owner(p), revision: revision}
	return t.write(ctx, OwnerRecord{Since: found.Since})
}
