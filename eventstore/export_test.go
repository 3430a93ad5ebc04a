package eventstore

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
)

// Connect returns a connection to a fresh in-process server.
func Connect(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server did not start")
	}
	nc, err := nats.Connect("", append(NATSOptions("test"), nats.InProcessServer(s))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// NewReplicatedLog returns the journal of a partition, in a stream with three replicas.
func NewReplicatedLog(t *testing.T, nc *nats.Conn, p int) Log {
	t.Helper()
	js, err := newJetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := streamConfigs(LedgerInfo{ID: "test", Partitions: 100}, Partition(p), 3)[0]
	stream, err := js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(fmt.Errorf("create %s: %w", cfg.Name, err))
	}
	log := &natsLog{js: js, stream: stream, subject: cfg.Subjects[0], replicas: cfg.Replicas}
	// The servers tell each other of a new stream only after it is there. An append that must be refused shows that it
	// can be reached.
	for !errors.Is(<-log.Append(Place{Seq: 99, ID: "none"}, Record{ID: "none"}), ErrConflict) {
		if !pause(t.Context(), 5*time.Millisecond) {
			t.Fatal("the stream cannot be reached")
		}
	}
	return log
}

// Snapshots are those of one partition.
type Snapshots struct{ *snapshotter }

// NewSnapshots returns snapshots whose rounds begin after that many bytes, in pieces of a tenant or two.
func NewSnapshots(t testing.TB, dir string, info LedgerInfo, every int64) Snapshots {
	s, err := newSnapshotter(dir, every, info, 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.step = 500
	return Snapshots{s}
}

// Load returns the state to go on from.
func (s Snapshots) Load() (*State, error) { return s.load() }

// Drop ends the round.
func (s Snapshots) Drop() { s.drop() }

// Path is the file.
func (s Snapshots) Path() string { return s.path }

// Rounds calls advance until nothing is left to do for a journal that is stored up to stored.
func (s Snapshots) Rounds(state *State, stored uint64) {
	for {
		s.advance(state, stored)
		if !s.writing {
			return
		}
		<-s.ready
	}
}

// Advance calls advance once.
func (s Snapshots) Advance(state *State, stored uint64) { s.advance(state, stored) }

// Commit decides a command for a tenant and returns the commit to be appended; false when it leaves no events.
func (s *State) Commit(t testing.TB, at time.Time, tenant domain.TenantID, key string, c domain.Command) (Place, Record, bool) {
	b := newCommitBuilder("/test", at)
	to := s.tenant(tenant)
	events, err := c.Decide(to.Tenant, domain.Moment{At: at, Epoch: s.EpochStart})
	var rejection *domain.Rejection
	if err != nil && !errors.As(err, &rejection) {
		t.Fatal(err)
	}
	if len(events) == 0 {
		return Place{}, Record{}, false
	}
	command := newID()
	if key != "" {
		command = Idempotency{Key: key, Fingerprint: "f"}.commandID()
	}
	if err := b.add(to, events, attributes{actor: "test", command: command}); err != nil {
		t.Fatal(err)
	}
	if key != "" {
		answer, rejection, known := domain.Recall(to.Tenant, events)
		to.answers.put(Idempotency{Key: key, Fingerprint: "f"}, recordedAnswer{at: at, known: known, answer: answer, rejection: rejection})
	}
	s.put(to)
	p, next := b.seal(s, s.Epoch, 0)
	s.moveTo(p, next, at)
	return p.after, p.record, true
}

// Text is all that a state is, to be compared.
func (s *State) Text() string {
	var lines []string
	for _, t := range s.tenants {
		lines = append(lines, fmt.Sprintf("%s %s %s v%d %s waiting %v answers %s", t.ID, t.Name, t.Status, t.Version, t.head, t.Waiters(), t.answers.encode()))
		t.Licenses(func(l *domain.License) {
			lines = append(lines, fmt.Sprintf("%s %+v", t.ID, l.LicenseInfo))
			l.Leases(func(lease domain.Lease) { lines = append(lines, fmt.Sprintf("%s %+v", t.ID, lease)) })
		})
	}
	slices.Sort(lines)
	return fmt.Sprintf("%+v epoch %d since %s last %+v at %s\n%s", s.Checkpoint, s.Epoch, s.EpochStart, s.last, s.Time, strings.Join(lines, "\n"))
}
