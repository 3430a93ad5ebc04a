package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/embedded"
)

// withJournal opens what a server left behind, or a new ledger.
func withJournal(ctx context.Context, dir string, f func(eventstore.Store) error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	nats, err := embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(dir, "nats"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer nats.Shutdown()
	nc, err := nats.Connect(eventstore.NATSOptions("bench")...)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := eventstore.CreateNATS(ctx, nc, 1, 1)
	if err != nil {
		return err
	}
	return f(store)
}

var errEnough = errors.New("enough")

// read calls f with each commit that is there.
func read(ctx context.Context, store eventstore.Store, f func(seq uint64, c eventstore.Commit) error) error {
	last, err := store.Journal(0).Last(ctx)
	if err != nil || last == 0 {
		return err
	}
	err = eventstore.ReadCommits(ctx, store.Journal(0), eventstore.Checkpoint{}, func(at eventstore.Checkpoint, c eventstore.Commit) error {
		if err := f(at.Seq, c); err != nil {
			return err
		}
		if at.Seq == last {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// rawAppend is how fast the journal takes what the batched heartbeats left, with nothing around it.
type rawAppend struct {
	Commits         int     `json:"commits"`
	Bytes           int     `json:"bytes"`
	LeasesPerSecond float64 `json:"leases_per_second"`
}

// measureRaw appends the commits of batched heartbeats that a server left in dir to a new journal, four in flight as the
// Writer has them.
func measureRaw(ctx context.Context, cfg config, dir string) (rawAppend, error) {
	fmt.Println("appending the same commits again …")
	const most = 256 << 20
	var r rawAppend
	var bodies [][]byte
	leases := 0
	err := withJournal(ctx, dir, func(store eventstore.Store) error {
		return read(ctx, store, func(_ uint64, c eventstore.Commit) error {
			slices, err := c.Decode()
			if err != nil || r.Bytes > most {
				return err
			}
			n := 0
			for _, s := range slices {
				for _, e := range s.Events {
					beat, ok := e.Data.(*domain.SeatHeartbeat)
					if !ok {
						return nil // the leases were still being acquired
					}
					n += len(beat.Leases)
				}
			}
			leases += n
			r.Bytes += len(c.Body)
			bodies = append(bodies, append([]byte{}, c.Body...))
			return nil
		})
	})
	if err != nil {
		return r, err
	}
	r.Commits = len(bodies)
	var took []time.Duration
	for round := range cfg.Rounds {
		err := withJournal(ctx, filepath.Join(cfg.Dir, fmt.Sprint("raw-", round)), func(store eventstore.Store) error {
			const inFlight = 4
			var last eventstore.Place
			var outcomes []<-chan error
			began := time.Now()
			for i, body := range bodies {
				c := eventstore.Commit{ID: fmt.Sprintf("%08d-%d", i, round), Body: body}
				outcomes = append(outcomes, store.Journal(0).Append(last, c.Record()))
				last = eventstore.Place{Seq: last.Seq + 1, ID: c.ID}
				if len(outcomes) == inFlight || i == len(bodies)-1 {
					for len(outcomes) > 0 && (len(outcomes) == inFlight || i == len(bodies)-1) {
						if err := <-outcomes[0]; err != nil {
							return err
						}
						outcomes = outcomes[1:]
					}
				}
			}
			took = append(took, time.Since(began))
			return nil
		})
		if err != nil {
			return r, err
		}
	}
	r.LeasesPerSecond = float64(leases) / sampleOf(took, time.Second).P50.Seconds()
	return r, nil
}

// million is what many leases cost.
type million struct {
	Leases            int           `json:"leases"`
	BytesPerLease     float64       `json:"resident_bytes_per_lease"`
	BytesPerLeaseBusy float64       `json:"resident_bytes_per_lease_before_settling"`
	SnapshotBytes     int64         `json:"snapshot_bytes"`
	SnapshotStart     time.Duration `json:"start_from_snapshot_ns"`
	SnapshotDecode    time.Duration `json:"decode_snapshot_ns"`
	Events            int           `json:"events"`
	Replay            time.Duration `json:"replay_ns"`
	ReplayDecode      time.Duration `json:"decode_ns"`
}

func measureMillion(ctx context.Context, cfg config, fills serverConfig) (million, error) {
	m := million{Leases: fills.Tenants * fills.Licenses * fills.Leases}
	dir := filepath.Join(cfg.Dir, "million")
	empty := fills
	empty.Leases = 0
	s, err := startServer(ctx, "ledger", filepath.Join(cfg.Dir, "none"), empty)
	if err != nil {
		return m, err
	}
	without, err := s.resident(true)
	s.stop()
	if err != nil {
		return m, err
	}
	fmt.Printf("acquiring %d leases …\n", m.Leases)
	fills.Snapshots = true
	if s, err = startServer(ctx, "ledger", dir, fills); err != nil {
		return m, err
	}
	busy, err := s.resident(false)
	settled, err2 := s.resident(true)
	s.stop()
	if err := errors.Join(err, err2); err != nil {
		return m, err
	}
	m.BytesPerLease = float64(settled-without) / float64(m.Leases)
	m.BytesPerLeaseBusy = float64(busy-without) / float64(m.Leases)

	again := func(snapshots bool) (time.Duration, error) {
		var took []time.Duration
		for range cfg.Rounds {
			s, err := startServer(ctx, "ledger", dir, serverConfig{Snapshots: snapshots})
			if err != nil {
				return 0, err
			}
			took = append(took, s.started)
			s.stop()
		}
		return sampleOf(took, time.Second).P50, nil
	}
	fmt.Println("starting again, with the snapshot and without …")
	if m.SnapshotStart, err = again(true); err != nil {
		return m, err
	}
	if m.Replay, err = again(false); err != nil {
		return m, err
	}
	fmt.Println("only reading and decoding the same …")
	err = withJournal(ctx, dir, func(store eventstore.Store) error {
		began := time.Now()
		err := read(ctx, store, func(_ uint64, c eventstore.Commit) error {
			slices, err := c.Decode()
			for _, s := range slices {
				m.Events += len(s.Events)
			}
			return err
		})
		if err != nil {
			return err
		}
		names, err := decodeNames(ctx, store)
		if err != nil {
			return err
		}
		m.ReplayDecode = time.Since(began)
		from, bytes, took, err := decodeSnapshot(filepath.Join(dir, "snapshots", "partition-00.snapshot"))
		if err != nil {
			return err
		}
		m.SnapshotBytes = bytes
		tail := time.Now()
		if err := decodeAfter(ctx, store, from); err != nil {
			return err
		}
		m.SnapshotDecode = took + time.Since(tail) + names
		return nil
	})
	return m, err
}

// decodeNames reads the directory and returns how long that took.
func decodeNames(ctx context.Context, store eventstore.Store) (time.Duration, error) {
	began := time.Now()
	log := store.Directory(0)
	last, err := log.Last(ctx)
	if err != nil || last == 0 {
		return 0, err
	}
	err = log.Read(ctx, 0, func(seq uint64, r eventstore.Record) error {
		if _, err := eventstore.DecodeDirectory(r); err != nil {
			return err
		}
		if seq == last {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return time.Since(began), err
}

func decodeSnapshot(path string) (from eventstore.Checkpoint, bytes int64, took time.Duration, err error) {
	began := time.Now()
	from, bytes, err = eventstore.DecodeSnapshot(path)
	if errors.Is(err, os.ErrNotExist) {
		return eventstore.Checkpoint{}, 0, 0, nil // too few leases for one
	}
	return from, bytes, time.Since(began), err
}

// decodeAfter decodes the commits behind from.
func decodeAfter(ctx context.Context, store eventstore.Store, from eventstore.Checkpoint) error {
	last, err := store.Journal(0).Last(ctx)
	if err != nil || last <= from.Seq {
		return err
	}
	err = eventstore.ReadCommits(ctx, store.Journal(0), from, func(at eventstore.Checkpoint, c eventstore.Commit) error {
		if _, err := c.Decode(); err != nil {
			return err
		}
		if at.Seq >= last {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
