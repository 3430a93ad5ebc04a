package ratelimit

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// Limits is what one key may ask of one process. 0 of any means: as much as it likes.
type Limits struct {
	// Seats, Commands, Reads and Exports are requests a second of one key, of each access.Budget. At once it may send what it gets in
	// burstFor: programs start in the morning, and pages load with many requests.
	Seats, Commands, Reads, Exports float64
	// Streams is how many live streams one key may have open.
	Streams int
	// Strangers is requests a second of one address without a key of this ledger; of IPv6 a /64 is one address.
	Strangers float64
	// Proxies are the addresses whose X-Forwarded-For is believed.
	Proxies []netip.Prefix
}

// burstFor is how long a key that has been silent may ask at once for what it gets in that time.
const burstFor = 10 * time.Second

// streamsRetry is how long who has too many live streams open is asked to wait.
const streamsRetry = 10 * time.Second

// strangers is the budget of who presents no key of this ledger.
const strangers access.Budget = "strangers"

// Limiter is the middleware that keeps requests within limits.
type Limiter struct {
	limits  map[access.Budget]float64 // requests a second; of access.Streams how many at once
	proxies []netip.Prefix
	made    func(key string) bool
	seeds   map[access.Budget]maphash.Seed
	keys    *table // by key and budget
	others  *table // by address
	now     func() time.Time
	refused *prometheus.CounterVec
}

// New returns a limiter. made reports whether a bearer key was made by this ledger; it is asked when one is not known yet.
func New(limits Limits, made func(key string) bool, registry prometheus.Registerer) *Limiter {
	l := &Limiter{
		limits: map[access.Budget]float64{
			access.Seats: limits.Seats, access.Commands: limits.Commands, access.Reads: limits.Reads, access.Exports: limits.Exports,
			access.Streams: float64(limits.Streams), strangers: limits.Strangers,
		},
		proxies: limits.Proxies, made: made, seeds: map[access.Budget]maphash.Seed{}, keys: newTable(), others: newTable(), now: time.Now,
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledger_rate_limited_total", Help: "Requests refused because their key had used up its budget; strangers: their address, without a key of this ledger."}, []string{"budget"}),
	}
	for budget, limit := range l.limits {
		if limit <= 0 {
			l.limits[budget] = math.Inf(1)
		}
		l.seeds[budget] = maphash.MakeSeed()
		l.refused.WithLabelValues(string(budget))
	}
	registry.MustRegister(l.refused)
	return l
}

// Limit is the middleware of a router: it refuses what is over the limit with 429 rate_limited. Routes that are not guarded, such
// as the page and /healthz, are not limited.
func (l *Limiter) Limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guarded, ok := mux.CurrentRoute(r).GetHandler().(access.Guarded)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		b, over, wait := l.take(r, guarded.Budget)
		if over != "" {
			l.refuse(w, r, over, wait)
			return
		}
		if b.rate == nil {
			defer b.open.Add(-1)
		}
		next.ServeHTTP(w, r)
	})
}

// take takes a request, or a live stream until its end, out of what is left of a budget. When nothing is left it returns which
// budget is used up, and after how long there is some again.
func (l *Limiter) take(r *http.Request, budget access.Budget) (b *bucket, over access.Budget, wait time.Duration) {
	b, budget = l.bucketOf(r, budget)
	if b.rate == nil {
		if b.open.Add(1) > int64(min(l.limits[budget], math.MaxInt32)) {
			b.open.Add(-1)
			return b, budget, streamsRetry
		}
		return b, "", 0
	}
	if now := l.now(); !b.rate.AllowN(now, 1) {
		return b, budget, time.Duration((1 - b.rate.TokensAt(now)) / float64(b.rate.Limit()) * float64(time.Second))
	}
	return b, "", 0
}

// bucketOf returns what a request is counted against, and as which budget.
func (l *Limiter) bucketOf(r *http.Request, budget access.Budget) (*bucket, access.Budget) {
	if bearer, err := serve.Bearer(r); err == nil {
		id := maphash.String(l.seeds[budget], bearer)
		if b := l.keys.get(id); b != nil {
			return b, budget
		}
		if l.made(bearer) {
			return l.create(l.keys, id, budget), budget
		}
	}
	address := l.addressOf(r)
	bytes := address.As16()
	id := maphash.Bytes(l.seeds[strangers], bytes[:])
	if b := l.others.get(id); b != nil {
		return b, strangers
	}
	return l.create(l.others, id, strangers), strangers
}

func (l *Limiter) create(t *table, id uint64, budget access.Budget) *bucket {
	b := &bucket{}
	switch limit := l.limits[budget]; {
	case budget == access.Streams:
	case math.IsInf(limit, 1):
		b.rate = rate.NewLimiter(rate.Inf, 1)
	default:
		b.rate = rate.NewLimiter(rate.Limit(limit), max(1, int(limit*burstFor.Seconds())))
	}
	return t.add(id, b, l.now())
}

// addressOf returns who sent a request: the last address that no trusted proxy vouches for.
func (l *Limiter) addressOf(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	address, _ := netip.ParseAddr(host)
	hops := r.Header.Values("X-Forwarded-For")
	for i := len(hops) - 1; i >= 0; i-- {
		for _, hop := range slices.Backward(strings.Split(hops[i], ",")) {
			before, err := netip.ParseAddr(strings.TrimSpace(hop))
			if err != nil || !l.trusts(address) {
				return site(address)
			}
			address = before
		}
	}
	return site(address)
}

func (l *Limiter) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(address.Unmap()) })
}

// site returns what one customer of a provider has: an IPv4 address, or the /64 of an IPv6 one.
func site(address netip.Addr) netip.Addr {
	if address = address.Unmap(); address.Is6() {
		prefix, _ := address.WithZone("").Prefix(64)
		return prefix.Addr()
	}
	if !address.IsValid() {
		return netip.IPv6Unspecified()
	}
	return address
}

func (l *Limiter) refuse(w http.ResponseWriter, r *http.Request, budget access.Budget, wait time.Duration) {
	l.refused.WithLabelValues(string(budget)).Inc()
	detail := fmt.Sprintf("With this key no more than %g requests a second are answered here of those that count as %q. Nothing was done.", l.limits[budget], budget)
	switch budget {
	case access.Streams:
		detail = fmt.Sprintf("This key has %g live streams open here, and may have no more.", l.limits[budget])
	case strangers:
		detail = fmt.Sprintf("Without a key of this ledger no more than %g requests a second of one address are answered. Nothing was done.", l.limits[budget])
	}
	p := serve.NewProblem(http.StatusTooManyRequests, "rate_limited", "Too many requests with this key", detail)
	// Many programs may share a key; they are not to come back all at once.
	p.RetryAfterSeconds = max(1, int((wait+time.Second-1)/time.Second)) + rand.IntN(3)
	serve.Handler(func(http.ResponseWriter, *http.Request) error { return p }).ServeHTTP(w, r)
}
