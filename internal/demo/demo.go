package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/client"
)

// Options is what a demo needs.
type Options struct {
	URL      string // of the ledger, without a slash at the end
	Operator string // the operator's bearer key
	// KeysFile keeps the license keys from one start to the next.
	KeysFile string
	Log      *slog.Logger
}

const tenant = "demo"

// offer is one license of the demo, and how many programs want it: more than it has seats.
type offer struct {
	product      string
	seats        int
	leaseSeconds int
	programs     int
}

var offers = []offer{
	{product: "cad-studio", seats: 5, leaseSeconds: 30, programs: 8},
	{product: "flow-solver", seats: 3, leaseSeconds: 30, programs: 4},
}

var people = []string{"ada", "grace", "edsger", "barbara", "donald", "margaret", "ken", "frances", "alan", "katherine", "niklaus", "radia"}

// Run makes the tenant and its licenses, if they are not there, and runs the fleet until ctx ends.
func Run(ctx context.Context, o Options) error {
	c := &ledger{url: o.URL, http: &http.Client{Timeout: 15 * time.Second}}
	if err := c.awaitReady(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	keys, err := licenseKeys(ctx, c, o)
	if err != nil {
		return ignoreEnd(ctx, fmt.Errorf("set up the demo: %w", err))
	}
	o.Log.Info("demo is running", "tenant", tenant)
	g, ctx := errgroup.WithContext(ctx)
	person := 0
	for i, offer := range offers {
		for range offer.programs {
			p := &program{ledger: c, key: keys[i], user: people[person%len(people)], machine: fmt.Sprintf("ws-%02d", person+1), lease: time.Duration(offer.leaseSeconds) * time.Second}
			person++
			g.Go(func() error {
				p.live(ctx, o.Log)
				return nil
			})
		}
	}
	return g.Wait()
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// licenseKeys returns the keys of offers: those of the last time, or of new licenses.
func licenseKeys(ctx context.Context, c *ledger, o Options) ([]string, error) {
	var keys []string
	if text, err := os.ReadFile(o.KeysFile); err == nil {
		if err := json.Unmarshal(text, &keys); err != nil || len(keys) != len(offers) {
			return nil, fmt.Errorf("%s is damaged; delete it to get new licenses", o.KeysFile)
		}
		return keys, nil
	}
	err := c.post(ctx, o.Operator, "/api/v1/tenants", api.CreateTenantRequest{Id: tenant, Name: "Demo Engineering"}, nil)
	if err != nil && !errors.Is(err, client.Code("tenant_exists")) {
		return nil, err
	}
	for _, offer := range offers {
		var issued api.IssueLicenseResponse
		err := c.post(ctx, o.Operator, "/api/v1/tenants/"+tenant+"/licenses",
			api.IssueLicenseRequest{Product: offer.product, Seats: offer.seats, LeaseSeconds: &offer.leaseSeconds}, &issued)
		if err != nil {
			return nil, err
		}
		keys = append(keys, issued.Key)
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return keys, os.WriteFile(o.KeysFile, text, 0o600)
}

// program is one simulated program on one machine.
type program struct {
	*ledger
	key, user, machine string
	lease              time.Duration
}

// live starts and ends the program again and again.
func (p *program) live(ctx context.Context, log *slog.Logger) {
	for pause(ctx, between(0, 12*time.Second)) {
		if err := p.once(ctx); err != nil && ctx.Err() == nil {
			log.Debug("demo program", "user", p.user, "error", err)
		}
	}
}

// once takes a seat, works, and gives it back, or crashes: then the seat is free when its lease has run out.
func (p *program) once(ctx context.Context) error {
	var held api.AcquireResponse
	if err := p.post(ctx, p.key, "/api/v1/licenses/acquire", api.AcquireRequest{User: p.user, Machine: p.machine}, &held); err != nil {
		return err
	}
	lease := api.LeasesRequest{Lease: &held.Lease.Id}
	works := between(5*time.Second, time.Minute)
	for works > 0 {
		beat := min(works, p.lease/3)
		if !pause(ctx, beat) {
			return nil
		}
		works -= beat
		if err := p.post(ctx, p.key, "/api/v1/licenses/heartbeat", lease, nil); err != nil {
			return err
		}
	}
	if rand.IntN(4) == 0 {
		return nil // crashed
	}
	return p.post(ctx, p.key, "/api/v1/licenses/release", lease, nil)
}

// ledger is where the API is.
type ledger struct {
	url  string
	http *http.Client
}

// post makes a call, until there is an answer or ctx ends, and decodes it into reply, unless that is nil.
// Errors: *client.Error.
func (l *ledger) post(ctx context.Context, key, path string, body, reply any) error {
	caller, err := client.NewCaller(l.url, key, l.http)
	if err != nil {
		return err
	}
	call := client.Call{Method: http.MethodPost, Path: path, Body: body}
	if strings.HasPrefix(path, "/api/v1/tenants") { // what seats are asked for may be asked for twice
		call.IdempotencyKey = client.NewIdempotencyKey()
	}
	answer, err := caller.Do(ctx, call)
	if err != nil || reply == nil {
		return err
	}
	return json.Unmarshal(answer.Body, reply)
}

// awaitReady returns when the ledger answers.
func (l *ledger) awaitReady(ctx context.Context) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := l.http.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if !pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func between(least, most time.Duration) time.Duration {
	return least + rand.N(most-least)
}

// pause waits for d and reports whether ctx is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
