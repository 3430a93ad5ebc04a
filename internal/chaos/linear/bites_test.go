package linear

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The histories of servers that are wrong on purpose are refused, and those of a right one are not, though it answers late,
// or never, and does things long after nobody waits any more.
func TestBites(t *testing.T) {
	t.Parallel()
	for _, flaw := range []string{
		"",
		"sells one seat too many",
		"forgets a lease",
		"answers before it stores",
		"gives a holder two leases",
		"accepts a heartbeat after the release",
		"acknowledges a release and does not do it",
		"denies while a seat is free",
		"ends a lease early",
		"does a keyed acquire twice",
		"answers from a copy that is behind",
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			if flaw == "" {
				if err := fakeHistory(t, flaw, 1); err != nil {
					t.Error(err)
				}
				return
			}
			// What a flaw did may, now and then, be explained by what others did at the same time; the more so, the slower the
			// machine. Not every time.
			for round := range uint64(bitesWithin) {
				err := fakeHistory(t, flaw, round)
				if err == nil {
					continue
				}
				text := err.Error()
				if !strings.Contains(text, "not linearizable") {
					t.Fatal(text)
				}
				t.Logf("history %d: %s", round+1, strings.SplitN(text, "\n", 2)[0])
				if _, path, drawn := strings.Cut(text, "drawn in "); drawn {
					if err := os.RemoveAll(filepath.Dir(path)); err != nil {
						t.Error(err)
					}
				}
				return
			}
			t.Errorf("%d histories of a server that %s were found linearizable", bitesWithin, flaw)
		})
	}
}

// bitesWithin is in how many histories a flaw has to be found. With four busy loops beside the test on two cores, one history
// of 2,000 operations in about 50 shows nothing.
const bitesWithin = 10

// fakeHistory checks 2,000 operations of 16 clients on a fake with the flaw.
func fakeHistory(t *testing.T, flaw string, seed uint64) error {
	f := &fake{flaw: flaw, seats: 6, random: rand.New(rand.NewPCG(1, seed))}
	f.reset()
	server := httptest.NewServer(f)
	defer server.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l := &load{
		t: t, tenant: "fake", seats: f.seats, lease: fakeLease, perHist: 1 << 30,
		issue:   func(int) (string, string) { f.reset(); return "license", "key" },
		targets: func() []string { return []string{server.URL} },
		rank: func(position string) int64 {
			n, err := strconv.ParseInt(position, 10, 64)
			if err != nil {
				t.Error(err)
			}
			return 2*n + 1
		},
	}
	l.current()
	wait := l.run(ctx, 16, seed)
	for l.sold[0].history.Len() < 2000 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	stop()
	wait()
	t.Logf("%d operations, %d unknown", l.operations(), l.unknown.Load())
	return l.sold[0].history.Check(f.close(), 100*time.Millisecond)
}

const fakeLease = time.Hour

// fake is a license in memory behind the API, with at most one flaw.
type fake struct {
	flaw  string
	seats int

	mu     sync.Mutex
	closed bool
	random *rand.Rand
	now    *book
	stored *book // what the one that answers before it stores falls back to
	falls  int   // from which step on it does so again
	steps  int
	order  Order
}

// book is what a license holds.
type book struct {
	holders map[string]string // lease by holder
	leases  map[string]string // active, released, expired; by lease
	keys    map[string]reply  // by Idempotency-Key
}

// reply is an answer of the fake.
type reply struct {
	status int
	body   any
	step   int
}

func (f *fake) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = &book{map[string]string{}, map[string]string{}, map[string]reply{}}
	f.stored = f.now.copy()
	f.order = Order{Acquired: map[string]int64{}, Released: map[string]int64{}}
}

// close ends what is done late, and returns the order of all that was done.
func (f *fake) close() Order {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.order
}

// beyond reports whether there is a lease that o has not.
func (b *book) beyond(o *book) bool {
	for id := range b.leases {
		if o.leases[id] == "" {
			return true
		}
	}
	return false
}

func (b *book) copy() *book {
	c := &book{map[string]string{}, map[string]string{}, map[string]reply{}}
	for k, v := range b.holders {
		c.holders[k] = v
	}
	for k, v := range b.leases {
		c.leases[k] = v
	}
	for k, v := range b.keys {
		c.keys[k] = v
	}
	return c
}

// ServeHTTP answers; or does not, and does it now, later or never.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct{ User, Lease string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		panic(err)
	}
	key := r.Header.Get("Idempotency-Key")
	do := func() reply {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.do(filepath.Base(r.URL.Path), body.User, body.Lease, key)
	}
	f.mu.Lock()
	fate, delay := f.random.IntN(200), time.Duration(f.random.Int64N(int64(20*time.Millisecond)))
	f.mu.Unlock()
	switch fate {
	case 0:
		panic(http.ErrAbortHandler)
	case 1:
		do()
		panic(http.ErrAbortHandler)
	case 2, 3:
		time.AfterFunc(10*delay, func() { do() })
		panic(http.ErrAbortHandler)
	}
	if key != "" {
		time.AfterFunc(10*delay, func() { do() }) // it comes twice: only the key tells that it is the same
	}
	if fate < 100 {
		time.Sleep(delay / 10)
	}
	answer := do()
	if fate%2 == 0 {
		time.Sleep(delay / 10)
	}
	w.Header().Set("Ledger-Position", fmt.Sprint(answer.step))
	w.WriteHeader(answer.status)
	json.NewEncoder(w).Encode(answer.body)
}

// do is one call, done at once.
func (f *fake) do(call, holder, id, key string) reply {
	if f.closed {
		return reply{}
	}
	f.steps++
	is := func(flaw string, every int) bool { return f.flaw == flaw && f.steps%every == 0 }
	switch {
	case f.flaw == "answers before it stores" && f.steps >= f.falls && f.now.beyond(f.stored):
		f.now, f.falls = f.stored.copy(), f.steps+300
	case f.flaw == "answers from a copy that is behind" && f.steps%50 < 5:
		old := f.now
		f.now = f.stored
		defer func() { f.now = old }()
	case f.steps%10 == 0:
		f.stored = f.now.copy()
	}
	b := f.now
	switch {
	case is("forgets a lease", 200):
		for holder, id := range b.holders {
			delete(b.holders, holder)
			delete(b.leases, id)
			break
		}
	case is("ends a lease early", 200):
		for holder, id := range b.holders {
			delete(b.holders, holder)
			b.leases[id] = "expired"
			break
		}
	}
	if recorded, ok := b.keys[key]; ok && key != "" && f.flaw != "does a keyed acquire twice" {
		return recorded
	}
	answer := f.decide(b, is, call, holder, id)
	answer.step = f.steps
	f.noteFull(len(b.holders) >= f.seats)
	b.keys[key] = answer
	return answer
}

// rank is that of what this step does.
func (f *fake) rank() int64 { return int64(2 * f.steps) }

// noteFull notes whether the license is full after this step.
func (f *fake) noteFull(full bool) {
	n := len(f.order.Full)
	was := n > 0 && f.order.Full[n-1].To == math.MaxInt64
	switch {
	case full && !was:
		f.order.Full = append(f.order.Full, Span{From: f.rank() + 1, To: math.MaxInt64})
	case was && !full:
		f.order.Full[n-1].To = f.rank() - 1
	}
}

func (f *fake) decide(b *book, is func(string, int) bool, call, holder, id string) reply {
	problem := func(status int, code string) reply { return reply{status: status, body: map[string]any{"code": code}} }
	lease := func(status int, id string) reply {
		now := time.Now()
		return reply{status: status, body: map[string]any{"lease": map[string]any{
			"id": id, "acquired_at": now, "expires_at": now.Add(fakeLease).Add(time.Duration(f.steps) * time.Millisecond),
		}}}
	}
	state := b.leases[id]
	switch {
	case call == "acquire":
		held := b.holders[holder]
		seats := f.seats
		if is("sells one seat too many", 5) {
			seats++
		}
		switch {
		case held != "" && f.flaw != "gives a holder two leases":
			return lease(http.StatusOK, held)
		case len(b.holders) >= seats, is("denies while a seat is free", 50):
			return problem(http.StatusConflict, "no_seat_available")
		}
		id := fmt.Sprintf("lse_%05d", f.steps)
		b.holders[holder], b.leases[id] = id, "active"
		f.order.Acquired[id] = f.rank()
		return lease(http.StatusCreated, id)
	case state == "":
		return problem(http.StatusNotFound, "lease_not_found")
	case state == "expired":
		return problem(http.StatusGone, "lease_expired")
	case call == "heartbeat":
		if state == "released" && f.flaw != "accepts a heartbeat after the release" {
			return problem(http.StatusGone, "lease_released")
		}
		return lease(http.StatusOK, id)
	}
	if is("acknowledges a release and does not do it", 5) {
		return lease(http.StatusOK, id)
	}
	for holder, held := range b.holders {
		if held == id {
			delete(b.holders, holder)
			f.order.Released[id] = f.rank()
		}
	}
	b.leases[id] = "released"
	return lease(http.StatusOK, id)
}
