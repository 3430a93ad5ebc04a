package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/internal/identity"
)

// The rows about the read side.
const (
	rowLag  = "read models up to date after the top rate"
	rowLive = "acknowledged to seen in a browser, 1,000 open streams"
)

// reads is how far queries and live streams are behind commands.
type reads struct {
	// At the top rate, with the projector on the same cores.
	PerSecond  float64       `json:"requests_per_second"`
	Lag        time.Duration `json:"lag_ns"`         // of the rows, the longest while the load lasted: from an answer until a query reflects it
	LagHalfway time.Duration `json:"lag_halfway_ns"` // the longest in the first half
	CaughtUp   time.Duration `json:"caught_up_ns"`   // from the end of the load until the rows reflect all of it

	// At a quarter of the top rate.
	Streams       int           `json:"streams"`
	Tenants       int           `json:"tenants"`
	LivePerSecond float64       `json:"live_requests_per_second"`
	Seen          int           `json:"seen"`   // how often a stream told of a new lease
	Unseen        int           `json:"unseen"` // how often it never did
	LiveP50       time.Duration `json:"live_p50_ns"`
	LiveP99       time.Duration `json:"live_p99_ns"`
}

// measureReads measures the rows about the read side whose name contains cfg.Only. top is the rate that a quarter is
// taken of; 0: what this server does with its projector.
func measureReads(ctx context.Context, cfg config, fills serverConfig, streams int, top float64) (r reads, err error) {
	fills.Reads = true
	dir := filepath.Join(cfg.Dir, "reads")
	fmt.Printf("starting reads: %d tenants, %d licenses, their read models …\n", fills.Tenants, fills.Tenants*fills.Licenses)
	s, err := startServer(ctx, "ledger", dir, fills)
	if err != nil {
		return r, err
	}
	defer s.stop()
	_, operator, err := identity.LoadOrCreateOperatorKey(filepath.Join(dir, "operator.key"))
	if err != nil {
		return r, err
	}
	p := &prober{server: s, operator: operator}
	if _, err := p.probe(ctx); err != nil { // until the rows have what the server was filled with
		return r, err
	}
	if r, err = p.topRate(ctx, cfg); err != nil {
		return r, err
	}
	fmt.Printf("%s: %.0f requests/s, rows %v behind at most, all there %v after the last answer\n", rowLag, r.PerSecond,
		r.Lag.Round(time.Millisecond), r.CaughtUp.Round(time.Millisecond))
	if !strings.Contains(rowLive, cfg.Only) {
		return r, nil
	}
	if top == 0 {
		top = r.PerSecond
	}
	if err := p.live(ctx, cfg, streams, top/4, &r); err != nil {
		return r, err
	}
	fmt.Printf("%s: at %.0f requests/s, p50 %v, p99 %v, %d seen, %d never\n", rowLive, r.LivePerSecond,
		r.LiveP50.Round(time.Millisecond), r.LiveP99.Round(time.Millisecond), r.Seen, r.Unseen)
	return r, nil
}

// prober asks a server for its own answers.
type prober struct {
	server   *server
	operator string
}

// probe has a command done and returns how long after its answer a query reflects it.
func (p *prober) probe(ctx context.Context) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.server.addr+acquirePath, bytes.NewReader(holder("probe")))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+p.server.key(0, 0))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	position := response.Header.Get("Ledger-Position")
	if position == "" {
		return 0, fmt.Errorf("a probe was answered %s without a position", response.Status)
	}
	answered := time.Now()
	for {
		query, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.server.addr+"/api/v1/tenants/"+tenantID(0), nil)
		if err != nil {
			return 0, err
		}
		query.Header.Set("Authorization", "Bearer "+p.operator)
		query.Header.Set("Ledger-Reason", "benchmark")
		query.Header.Set("Ledger-Min-Position", position)
		response, err := http.DefaultClient.Do(query)
		if err != nil {
			return 0, err
		}
		response.Body.Close()
		switch response.StatusCode {
		case http.StatusOK:
			return time.Since(answered), nil
		case http.StatusServiceUnavailable: // it has waited for 2 s
		default:
			return 0, fmt.Errorf("a query was answered %s", response.Status)
		}
	}
}

// topRate asks for as much as the server gives, and looks how far its rows are behind meanwhile and afterwards.
func (p *prober) topRate(ctx context.Context, cfg config) (r reads, err error) {
	began := time.Now()
	probing, enough := context.WithCancel(ctx)
	var probes errgroup.Group
	probes.Go(func() error {
		for probing.Err() == nil {
			lag, err := p.probe(ctx) // the last one is waited for
			if err != nil {
				return err
			}
			if r.Lag = max(r.Lag, lag); time.Since(began) < cfg.Duration/2 {
				r.LagHalfway = r.Lag
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-probing.Done():
			}
		}
		return nil
	})
	times, err := load(ctx, p.server.addr, cfg.Connections, cfg.Duration, mix(newWorkload(p.server)))
	enough()
	after := time.Now()
	if err == nil {
		_, err = p.probe(ctx)
	}
	r.CaughtUp = time.Since(after)
	r.PerSecond = float64(len(times)) / cfg.Duration.Seconds()
	return r, errors.Join(err, probes.Wait())
}

// live opens streams, takes seats at perSecond requests a second, and looks when each stream tells of them.
func (p *prober) live(ctx context.Context, cfg config, streams int, perSecond float64, r *reads) error {
	watching, done := context.WithCancel(ctx)
	defer done()
	watchers := make([]*watcher, streams)
	var opening errgroup.Group
	opening.SetLimit(32)
	for i := range watchers {
		opening.Go(func() (err error) {
			watchers[i], err = p.watch(watching, i%p.server.fills.Tenants)
			return err
		})
	}
	if err := opening.Wait(); err != nil {
		return fmt.Errorf("open %d streams (a process may need more open files: ulimit -n): %w", streams, err)
	}
	w := newWorkload(p.server)
	var mu sync.Mutex
	acked := make([]map[string]time.Time, p.server.fills.Tenants) // by lease
	for i := range acked {
		acked[i] = map[string]time.Time{}
	}
	cycle := w.cycleNoting(mixHeartbeats, func(license int, lease string) {
		now := time.Now()
		mu.Lock()
		acked[license%p.server.fills.Tenants][lease] = now
		mu.Unlock()
	})
	times, err := paced(ctx, p.server.addr, cfg.Connections, cfg.Duration, cycle, perSecond)
	if err != nil {
		return err
	}
	if _, err := p.probe(ctx); err != nil { // all is in the rows
		return err
	}
	time.Sleep(time.Second) // and this is four times what its way to the browser may take
	done()
	var all []time.Duration
	for _, watcher := range watchers {
		<-watcher.ended
		for lease, at := range acked[watcher.tenant] {
			if seen, ok := watcher.seen[lease]; ok {
				all = append(all, max(0, seen.Sub(at))) // it may be seen before its own client has the answer
			} else {
				r.Unseen++
			}
		}
	}
	if len(all) == 0 {
		return errors.New("no stream told of a lease; measure longer")
	}
	slices.Sort(all)
	r.Tenants = p.server.fills.Tenants
	r.Streams, r.Seen, r.LivePerSecond = streams, len(all), float64(len(times))/cfg.Duration.Seconds()
	r.LiveP50, r.LiveP99 = all[len(all)/2], all[len(all)*99/100]
	return nil
}

// watcher is an open live stream.
type watcher struct {
	tenant int
	seen   map[string]time.Time // when it told of a lease first; to be read when it has ended
	ended  chan struct{}
}

// watch opens a stream and returns when it has begun; it reads on until ctx ends.
func (p *prober) watch(ctx context.Context, tenant int) (*watcher, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", p.server.addr)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+p.server.addr+"/api/v1/tenants/"+tenantID(tenant)+"/live", nil)
	if err == nil {
		request.Header.Set("Authorization", "Bearer "+p.operator)
		request.Header.Set("Ledger-Reason", "benchmark")
		err = request.Write(c)
	}
	var response *http.Response
	if err == nil {
		response, err = http.ReadResponse(bufio.NewReader(c), request)
	}
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("a live stream was answered %s", response.Status)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	w := &watcher{tenant: tenant, seen: map[string]time.Time{}, ended: make(chan struct{})}
	began := make(chan struct{})
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		defer close(w.ended)
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		for first := true; lines.Scan(); {
			line, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
			if !ok {
				continue
			}
			w.note(line, time.Now())
			if first {
				close(began)
				first = false
			}
		}
	}()
	select {
	case <-began:
		return w, nil
	case <-w.ended:
		return nil, errors.New("a live stream ended before it began")
	}
}

// note notes the leases that an event tells of.
func (w *watcher) note(data []byte, now time.Time) {
	for {
		_, rest, ok := bytes.Cut(data, []byte(`"lse_`))
		id, rest, ok2 := bytes.Cut(rest, []byte(`"`))
		if !ok || !ok2 {
			return
		}
		if _, seen := w.seen["lse_"+string(id)]; !seen {
			w.seen["lse_"+string(id)] = now
		}
		data = rest
	}
}
