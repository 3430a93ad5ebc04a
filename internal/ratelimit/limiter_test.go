package ratelimit

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// limited is a limiter around a route of each budget, on a clock of its own. Keys that begin with "made" are the ledger's.
type limited struct {
	*Limiter
	handler http.Handler
	clock   time.Time
	stream  chan struct{} // a live stream ends when it gets one
}

func setup(limits Limits) *limited {
	s := &limited{clock: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), stream: make(chan struct{})}
	s.Limiter = New(limits, func(key string) bool { return strings.HasPrefix(key, "made") }, prometheus.NewRegistry())
	s.now = func() time.Time { return s.clock }
	router := serve.NewRouter()
	router.Use(s.Limit)
	for _, budget := range []access.Budget{access.Seats, access.Commands, access.Reads, access.Exports, access.Streams} {
		router.Handle("/"+string(budget), access.Guarded{Budget: budget, Handler: func(w http.ResponseWriter, _ *http.Request) error {
			if budget == access.Streams {
				<-s.stream
			}
			w.WriteHeader(http.StatusNoContent)
			return nil
		}})
	}
	router.Handle("/healthz", serve.Handler(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	s.handler = router
	return s
}

func request(path, key, from string, forwarded ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = from
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	r.Header["X-Forwarded-For"] = forwarded
	return r
}

func (s *limited) call(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// passes asks n times and returns how often the answer was no refusal.
func (s *limited) passes(n int, path, key, from string, forwarded ...string) (passed int) {
	for range n {
		if s.call(request(path, key, from, forwarded...)).Code == http.StatusNoContent {
			passed++
		}
	}
	return passed
}

const home = "192.0.2.1:1"

func TestAKeyUsesUpItsOwnBudget(t *testing.T) {
	t.Parallel()
	s := setup(Limits{Reads: 2, Commands: 1})
	if n := s.passes(30, "/reads", "made-1", home); n != 20 {
		t.Errorf("%d of 30 at once, with 2 a second: want what it gets in 10 s", n)
	}
	w := s.call(request("/reads", "made-1", home))
	var p serve.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusTooManyRequests || p.Code != "rate_limited" || !strings.Contains(p.Detail, `2 requests a second`) || !strings.Contains(p.Detail, `"reads"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if after, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || after < 1 || after > 3 {
		t.Errorf("Retry-After: %q", w.Header().Get("Retry-After"))
	}
	if n := s.passes(5, "/reads", "made-2", home); n != 5 {
		t.Errorf("another key: %d of 5", n)
	}
	if n := s.passes(5, "/commands", "made-1", home); n != 5 {
		t.Errorf("another budget: %d of 5", n)
	}
	if n := s.passes(1000, "/exports", "made-1", home); n != 1000 {
		t.Errorf("a budget without a limit: %d of 1000", n)
	}
	if n := s.passes(1000, "/healthz", "", home); n != 1000 {
		t.Errorf("what is not guarded: %d of 1000", n)
	}
	s.clock = s.clock.Add(3 * time.Second)
	if n := s.passes(30, "/reads", "made-1", home); n != 6 {
		t.Errorf("%d after 3 s, with 2 a second", n)
	}
	if n := testutil.ToFloat64(s.refused.WithLabelValues("reads")); n != 10+1+24 {
		t.Errorf("%v counted as refused", n)
	}
}

func TestLiveStreamsAreCountedWhileTheyAreOpen(t *testing.T) {
	t.Parallel()
	s := setup(Limits{Streams: 2})
	ended := make(chan int)
	open := func() { go func() { ended <- s.call(request("/streams", "made-1", home)).Code }() }
	open()
	open()
	id := func() *bucket {
		b, _ := s.bucketOf(request("/streams", "made-1", home), access.Streams)
		return b
	}
	for id().open.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	if w := s.call(request("/streams", "made-1", home)); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "2 live streams") {
		t.Errorf("the third: %d %s", w.Code, w.Body)
	}
	s.stream <- struct{}{}
	<-ended
	open()
	s.stream <- struct{}{}
	s.stream <- struct{}{}
	for range 2 { // the one that was open, and the one in place of the one that ended
		if code := <-ended; code != http.StatusNoContent {
			t.Errorf("a stream in place of one that ended: %d", code)
		}
	}
}

// A flood of made-up keys is cut short, costs no memory, and leaves those alone who have a key, also at the same address.
func TestStrangersAreCountedByAddress(t *testing.T) {
	t.Parallel()
	s := setup(Limits{Strangers: 1, Reads: 1000})
	passed := s.passes(5, "/reads", "", home)
	for i := range 10_000 {
		passed += s.passes(1, "/reads", fmt.Sprint("made up: ", i)[1:], home)
	}
	if passed != 10 {
		t.Errorf("%d strangers passed, of one address with 1 a second", passed)
	}
	if n := s.keys.len() + s.others.len(); n != 1 {
		t.Errorf("%d buckets for strangers of one address", n)
	}
	if n := s.passes(100, "/reads", "made-1", home); n != 100 {
		t.Errorf("a known key at that address: %d of 100", n)
	}
	if n := s.passes(5, "/reads", "", "192.0.2.2:1"); n != 5 {
		t.Errorf("another address: %d of 5", n)
	}
	if w := s.call(request("/reads", "", home)); w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "Without a key") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestWhoseAddressItIs(t *testing.T) {
	t.Parallel()
	s := setup(Limits{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}})
	for _, c := range []struct {
		from      string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:1", nil, "192.0.2.1"},
		{"[::ffff:192.0.2.1]:1", nil, "192.0.2.1"},
		{"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2::"},
		{"192.0.2.1:1", []string{"198.51.100.7"}, "192.0.2.1"}, // says who?
		{"10.1.1.1:1", []string{"198.51.100.7"}, "198.51.100.7"},
		{"10.1.1.1:1", []string{"198.51.100.7, 203.0.113.5"}, "203.0.113.5"}, // the first is what 203.0.113.5 claims
		{"10.1.1.1:1", []string{"198.51.100.7", "203.0.113.5, 10.9.9.9"}, "203.0.113.5"},
		{"[fd00::1]:1", []string{"198.51.100.7"}, "198.51.100.7"},
		{"10.1.1.1:1", []string{"nonsense"}, "10.1.1.1"},
		{"10.1.1.1:1", []string{"nonsense, 203.0.113.5"}, "203.0.113.5"},
		{"@", nil, "::"},
	} {
		if got := s.addressOf(request("/", "", c.from, c.forwarded...)); got.String() != c.want {
			t.Errorf("%s for %q: %v, want %s", c.from, c.forwarded, got, c.want)
		}
	}
}

// What nobody asks for any more is forgotten, what is in use is kept, and there is never more than the bound.
func TestBucketsAreBounded(t *testing.T) {
	t.Parallel()
	s := setup(Limits{Reads: 1})
	for i := range 30_000 {
		s.passes(1, "/reads", fmt.Sprint("made-", i), home)
		s.clock = s.clock.Add(time.Millisecond)
	}
	// 1 a second: a second later there is nothing left to know. Some more wait to be swept out.
	if n := s.keys.len(); n > 2*shards*sweepAt {
		t.Errorf("%d buckets are kept of 30,000 keys, of which 1,000 asked in the last second", n)
	}

	small := newTable()
	now := s.clock
	busy := func() *bucket {
		b := &bucket{}
		b.open.Store(1)
		return b
	}
	first := small.add(0, busy(), now)
	for i := range uint64(2 * shardMax) {
		small.add(i*shards, busy(), now)
	}
	if n := small.len(); n != shardMax {
		t.Errorf("%d buckets in a shard, at most %d", n, shardMax)
	}
	if small.get(0) != first || small.add(0, busy(), now) != first {
		t.Error("a bucket in use was dropped")
	}
	if a, b := small.add(1<<40*shards, busy(), now), small.add(1<<41*shards, busy(), now); a != b {
		t.Error("beyond the bound newcomers have a bucket each")
	}
}

func (t *table) len() (n int) {
	for i := range t.shards {
		n += len(t.shards[i].buckets)
	}
	return n
}

func TestWithinItsLimitsARequestAllocatesNothing(t *testing.T) {
	s := setup(Limits{Seats: 1e12})
	r := request("/seats", "made-1", home)
	if n := testing.AllocsPerRun(1000, func() { s.take(r, access.Seats) }); n > 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// What limits add to a request: of one key that all processors use, and of many.
func BenchmarkTake(b *testing.B) {
	for _, keys := range []int{1, 1000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			l := New(Limits{Seats: 1e12}, func(string) bool { return true }, prometheus.NewRegistry())
			var callers atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				requests := make([]*http.Request, keys)
				for i := range requests {
					requests[i] = request("/seats", fmt.Sprintf("lk_acme_%012d_%043d", i, i), home)
				}
				for i := int(callers.Add(1)) * 37; pb.Next(); i++ {
					if _, over, _ := l.take(requests[i%keys], access.Seats); over != "" {
						b.Error(over)
					}
				}
			})
		})
	}
}
