package eventstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// hold takes a seat for a user by name, on a machine of the same name.
func (l *ledger) hold(user string) domain.Lease {
	l.t.Helper()
	result, err := l.writer.Execute(context.Background(), eventstore.Request{Tenant: "acme", Actor: "test", Prepare: func(s eventstore.Scope) (domain.Command, error) {
		h := domain.Holder{User: s.Pseudonym(eventstore.UserName, user), Machine: s.Pseudonym(eventstore.MachineName, "box of "+user)}
		return domain.AcquireSeat{License: "lic", Lease: domain.LeaseID("of-" + h.User), Holder: h}, nil
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	return *result.Answer.Lease
}

// forget forgets a user by name, as the API does.
func (l *ledger) forget(user string) (domain.Pseudonym, error) {
	return l.forgetFor(context.Background(), user)
}

func (l *ledger) forgetFor(ctx context.Context, user string) (domain.Pseudonym, error) {
	result, err := l.writer.Execute(ctx, eventstore.Request{
		Tenant: "acme", Actor: "operator", Idempotency: &eventstore.Idempotency{Key: "forget " + user, Fingerprint: "f"},
		Prepare: func(s eventstore.Scope) (domain.Command, error) {
			return domain.ForgetPerson{Pseudonym: s.Known(eventstore.UserName, user), Kind: "user", Reason: "asked"}, nil
		},
	})
	return result.Answer.Forgotten, err
}

func directoryOf(store eventstore.Store) *eventstoretest.Log {
	return store.Directory(store.Info().PartitionOf("acme")).(*eventstoretest.Log)
}

// stored returns all that a log holds.
func stored(t *testing.T, log eventstore.Log) string {
	t.Helper()
	last, err := log.Last(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for seq := uint64(1); seq <= last; seq++ {
		if r, err := log.Get(context.Background(), seq); err == nil {
			fmt.Fprintf(&all, "%d %s\n", seq, r.Body)
		} else if !errors.Is(err, eventstore.ErrNoRecord) {
			t.Fatal(err)
		}
	}
	return all.String()
}

// adaIsForgotten checks what must be so once ada was forgotten, whatever happened meanwhile.
func (l *ledger) adaIsForgotten(ada, bob domain.Lease) {
	l.t.Helper()
	if err := l.writer.Directory().AwaitErased(context.Background()); err != nil {
		l.t.Fatal(err)
	}
	if text := stored(l.t, directoryOf(l.store)); strings.Contains(text, `"ada"`) || !strings.Contains(text, `"bob"`) {
		l.t.Fatalf("the directory's log holds\n%s", text)
	}
	if text := l.writer.Directory().Text("acme", ada.Holder.User); text != "" {
		l.t.Fatalf("ada is still known as %q", text)
	}
	for p, want := range map[domain.Pseudonym]string{bob.Holder.User: "bob", bob.Holder.Machine: "box of bob", ada.Holder.Machine: "box of ada"} {
		if text := l.writer.Directory().Text("acme", p); text != want {
			l.t.Fatalf("%s stands for %q, not %q", p, text, want)
		}
	}
	told := 0
	for _, e := range l.journal() {
		if forgotten, ok := e.Data.(*domain.PersonForgotten); ok {
			told++
			if want := (domain.PersonForgotten{Pseudonym: ada.Holder.User, Kind: "user", Reason: "asked"}); *forgotten != want || e.Actor != "operator" {
				l.t.Fatalf("%s by %s, want %+v by the operator", e.Raw, e.Actor, want)
			}
		}
	}
	if told != 1 {
		l.t.Fatalf("%d events tell that ada was forgotten, want 1", told)
	}
	if again, err := l.forget("ada"); err != nil || again != ada.Holder.User {
		l.t.Fatalf("the request again = %s, %v; want the recorded answer %s", again, err, ada.Holder.User)
	}
}

// adaComesBack checks that her lease goes on under the old pseudonym, and that she is somebody else.
func (l *ledger) adaComesBack(ada domain.Lease) {
	l.t.Helper()
	beat := l.must(domain.HeartbeatSeats{License: "lic", Leases: []domain.LeaseID{ada.ID}})
	if beat.Leases[0].Rejected != nil {
		l.t.Fatalf("heartbeat of ada's lease: %v", beat.Leases[0].Rejected)
	}
	if back := l.hold("ada"); back.Holder.User == ada.Holder.User || back.ID == ada.ID {
		l.t.Fatalf("ada came back as %+v, which she was before", back)
	}
}

// The process dies between any two steps: a new one goes on, and the end is the same.
func TestForgettingSurvivesACrashAtEachStep(t *testing.T) {
	t.Parallel()
	crashes := map[string]func(l *ledger){
		"nothing dies": func(*ledger) {},
		"the word is not stored, and nobody knows": func(l *ledger) {
			directoryOf(l.store).Fail(eventstoretest.LostUnanswered)
		},
		"the word is stored, and nobody knows": func(l *ledger) {
			directoryOf(l.store).Fail(eventstoretest.StoredUnanswered)
		},
		"the commit is lost": func(l *ledger) {
			journalOf(l.store).Fail(eventstoretest.LostUnanswered)
		},
		"the commit is stored, and nobody knows": func(l *ledger) {
			journalOf(l.store).Fail(eventstoretest.StoredUnanswered)
		},
		"nothing can be erased": func(l *ledger) { directoryOf(l.store).FailErase(errors.New("disk on fire")) },
	}
	for name, crash := range crashes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := start(t, eventstoretest.NewStore(1))
				l.license(10, 300)
				ada, bob := l.hold("ada"), l.hold("bob")
				crash(l)
				if p, err := l.forget("ada"); err != nil || p != ada.Holder.User {
					t.Fatalf("forget = %s, %v; want %s", p, err, ada.Holder.User)
				}
				directoryOf(l.store).FailErase(nil)
				l.adaIsForgotten(ada, bob)
				l.adaComesBack(ada)
				l.stop()
			})
		})
	}
	// The process dies after some of its writes: what it wrote last, nobody knows.
	for _, done := range []string{"", "directory", "directory erase", "directory journal", "directory erase journal"} {
		t.Run("dies after: "+done, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := eventstoretest.NewStore(1)
				dying := &dyingStore{Store: store, buried: make(chan struct{})}
				l := start(t, dying)
				t.Cleanup(sync.OnceFunc(func() { close(dying.buried) })) // before l stops
				l.license(10, 300)
				ada, bob := l.hold("ada"), l.hold("bob")
				dying.die(done)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go l.forgetFor(ctx, "ada")
				synctest.Wait()
				next := start(t, store)
				if p, err := next.forget("ada"); err != nil || p != ada.Holder.User {
					t.Fatalf("forget at the next owner = %s, %v; want %s", p, err, ada.Holder.User)
				}
				next.adaIsForgotten(ada, bob)
				next.stop()
				last := start(t, store) // from nothing
				last.adaIsForgotten(ada, bob)
				last.adaComesBack(ada)
				last.stop()
			})
		})
	}
}

// dyingStore is a store that a process has until it dies.
type dyingStore struct {
	*eventstoretest.Store
	mu     sync.Mutex
	dead   bool
	buried chan struct{} // closed when the test has no more use for what died
	still  string        // what is done all the same: "journal", "directory", "erase"
}

func (s *dyingStore) die(still string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead, s.still = true, still
}

// does reports whether something is done.
func (s *dyingStore) does(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead {
		return true
	}
	done := strings.Contains(s.still, what)
	s.still = strings.Replace(s.still, what, "", 1)
	return done
}

func (s *dyingStore) Journal(p eventstore.Partition) eventstore.Log {
	return dyingLog{s.Store.Journal(p), s, "journal"}
}

func (s *dyingStore) Directory(p eventstore.Partition) eventstore.Log {
	return dyingLog{s.Store.Directory(p), s, "directory"}
}

func (s *dyingStore) Owner(p eventstore.Partition) eventstore.Register {
	return dyingRegister{s.Store.Owner(p), s}
}

type dyingLog struct {
	eventstore.Log
	store *dyingStore
	what  string
}

func (l dyingLog) Append(after eventstore.Place, r eventstore.Record) <-chan error {
	if !l.store.does(l.what) {
		outcome := make(chan error, 1)
		go func() {
			<-l.store.buried
			outcome <- eventstoretest.ErrUnanswered
		}()
		return outcome
	}
	return l.Log.Append(after, r)
}

func (l dyingLog) Erase(ctx context.Context, seq uint64) error {
	if !l.store.does("erase") {
		<-ctx.Done()
		return ctx.Err()
	}
	return l.Log.Erase(ctx, seq)
}

type dyingRegister struct {
	eventstore.Register
	store *dyingStore
}

func (r dyingRegister) Write(ctx context.Context, value []byte, revision uint64) (uint64, error) {
	if !r.store.does("owner") {
		return 0, eventstoretest.ErrUnanswered
	}
	return r.Register.Write(ctx, value, revision)
}

func TestARecordThatVanishedIsMissed(t *testing.T) {
	t.Parallel()
	log := eventstoretest.NewLog()
	d := eventstore.NewDirectory(log)
	for _, user := range []string{"ada", "bob", "eve"} {
		if err := d.Add([]eventstore.Name{{Tenant: "acme", Pseudonym: domain.Pseudonym("u_" + user), Kind: eventstore.UserName, Text: user}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Forget(t.Context(), eventstore.Forgotten{Tenant: "acme", Pseudonym: "u_ada"}); err != nil {
		t.Fatal(err)
	}
	if err := d.Erase(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := eventstore.NewDirectory(log).Load(t.Context()); err != nil {
		t.Fatalf("an erased record that is replaced: %v", err)
	}
	if err := log.Erase(t.Context(), 2); err != nil { // and no word of it
		t.Fatal(err)
	}
	if err := eventstore.NewDirectory(log).Load(t.Context()); !errors.Is(err, eventstore.ErrChainBroken) {
		t.Fatalf("load = %v, want ErrChainBroken", err)
	}
}

// Names come and go, owners die with their erasing undone: the log and every reader of it know exactly who is left.
func TestDirectoryKnowsExactlyWhoIsLeft(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		log := eventstoretest.NewLog()
		owner, follower := eventstore.NewDirectory(log), eventstore.NewDirectory(log)
		left, gone := map[domain.Pseudonym]string{}, map[domain.Pseudonym]string{}
		var all []domain.Pseudonym
		check := func(d *eventstore.Directory) {
			rt.Helper()
			for p, text := range left {
				if d.Text("acme", p) != text || d.Pseudonym("acme", eventstore.UserName, text) != p {
					rt.Fatalf("%s is %q, want %q", p, d.Text("acme", p), text)
				}
			}
			for p, text := range gone {
				if d.Text("acme", p) != "" || d.Pseudonym("acme", eventstore.UserName, text) == p {
					rt.Fatalf("%s is still known as %q", p, d.Text("acme", p))
				}
			}
		}
		must := func(err error) {
			rt.Helper()
			if err != nil {
				rt.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1:
				var names []eventstore.Name
				for range rapid.IntRange(1, 4).Draw(rt, "names") {
					p := domain.Pseudonym(fmt.Sprint("u_", len(all)))
					left[p] = fmt.Sprintf("name %d.", len(all))
					names = append(names, eventstore.Name{Tenant: "acme", Pseudonym: p, Kind: eventstore.UserName, Text: left[p]})
					all = append(all, p)
				}
				must(owner.Add(names))
			case 2, 3:
				if len(all) > 0 {
					p := rapid.SampledFrom(all).Draw(rt, "forget")
					must(owner.Forget(ctx, eventstore.Forgotten{Tenant: "acme", Pseudonym: p, Kind: eventstore.UserName}))
					if text, known := left[p]; known {
						delete(left, p)
						gone[p] = text
					}
				}
			case 4:
				must(owner.Erase(ctx))
			case 5: // the owner dies, with or without having erased
				owner = eventstore.NewDirectory(log)
				must(owner.Load(ctx))
			}
			if rapid.Bool().Draw(rt, "follow") {
				must(follower.Load(ctx))
				check(follower)
			}
			check(owner)
		}
		next := eventstore.NewDirectory(log)
		must(next.Load(ctx))
		must(next.Erase(ctx))
		check(next)
		must(follower.Load(ctx))
		check(follower)
		text := stored(t, log)
		for p, name := range gone {
			if strings.Contains(text, name) {
				rt.Fatalf("%s was forgotten, but the log holds its name:\n%s", p, text)
			}
		}
	})
}

// What is still to be erased is told, until it is.
func TestErasuresOwedAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		l := startWith(t, eventstoretest.NewStore(1), eventstore.NewWriterMetrics(registry))
		owed := func(want float64) {
			t.Helper()
			synctest.Wait()
			if got := scrape(t, registry)["ledger_erasures_owed"]; got != want {
				t.Errorf("%v owed, want %v", got, want)
			}
		}
		l.license(10, 300)
		l.hold("ada")
		l.hold("bob")
		owed(0)
		directoryOf(l.store).FailErase(errors.New("disk on fire"))
		for n, user := range []string{"ada", "bob"} {
			if _, err := l.forget(user); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second) // of the bubble: it is tried again
			owed(float64(n + 1))
		}
		directoryOf(l.store).FailErase(nil)
		if err := l.writer.Directory().AwaitErased(context.Background()); err != nil {
			t.Fatal(err)
		}
		owed(0)
		l.stop()
	})
}
