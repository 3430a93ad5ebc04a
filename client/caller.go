package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Caller makes single calls of the ledger's HTTP API with one key, and repeats them until there is an answer. Client is
// built on it; use it by itself for what a Client has no method for, such as management with the operator key.
// It is safe for concurrent use.
type Caller struct {
	servers []string // without a slash at the end
	key     string
	http    *http.Client
	current atomic.Uint32 // of servers: the one that is asked first
}

// NewCaller returns a Caller. server is a base address such as https://ledger.example.com; several are separated by commas,
// and the next one is asked when one does not answer. A nil httpClient is one of its own.
func NewCaller(server, key string, httpClient *http.Client) (*Caller, error) {
	c := &Caller{key: strings.TrimSpace(key), http: httpClient}
	for address := range strings.SplitSeq(server, ",") {
		address = strings.TrimRight(strings.TrimSpace(address), "/")
		u, err := url.Parse(address)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, fmt.Errorf("the server must be an address such as https://ledger.example.com, not %q", address)
		}
		c.servers = append(c.servers, address)
	}
	if c.http == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 16
		// A request that is given up closes its HTTP/1 connection. On HTTP/2 the next one would be sent on the same dead
		// connection, until the kernel gives it up after minutes.
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP1(true)
		c.http = &http.Client{Transport: transport}
	}
	return c, nil
}

// Call is one request.
type Call struct {
	Method, Path string
	Body         any // encoded as JSON; nil: none
	// IdempotencyKey is the same on every retry of one wish, so that it is done once. Empty: none is sent, which is right
	// for what may be done twice.
	IdempotencyKey string
	MinPosition    string // of a query: the Position of a command that its answer must reflect
	// Reason is why the operator reads what belongs to a tenant, which is recorded there. It is needed for such a query, and for no other.
	Reason string
	// Wait is how long the call asks the ledger to wait before it answers.
	Wait time.Duration
}

// Answer is what a call was answered with.
type Answer struct {
	Status   int    // 2xx
	Position string // of the journal; see Call.MinPosition
	Body     []byte // JSON
}

const (
	// attemptMax is how long one attempt may take. The server itself gives up after 10 s.
	attemptMax = 12 * time.Second
	// bodyMax bounds what is read of an answer, in bytes.
	bodyMax = 64 << 20
	// pauseMin and pauseMax bound the pause between two attempts.
	pauseMin, pauseMax = 100 * time.Millisecond, 5 * time.Second
)

// Do sends the call, again and again, until it is answered or ctx ends.
//
// Errors: *Error with the code of the refusal; with the code Unreachable when ctx ended before there was an answer, and then
// it is not known whether the call was done.
func (c *Caller) Do(ctx context.Context, call Call) (Answer, error) {
	var last error
	for attempt := 0; ; attempt++ {
		if ctx.Err() == nil {
			answer, err := c.once(ctx, attemptMax+call.Wait, call)
			if !errors.Is(err, Unreachable) {
				return answer, err
			}
			if ctx.Err() == nil || last == nil {
				last = err
			}
		}
		if ctx.Err() != nil || !sleep(ctx, max(backoff(attempt, pauseMin, pauseMax), retryAfter(last))) {
			return Answer{}, gaveUp(last, context.Cause(ctx))
		}
	}
}

// gaveUp returns the last error of an attempt, if there was one, and why there is no other attempt.
func gaveUp(last, why error) *Error {
	var e *Error
	switch {
	case !errors.As(last, &e):
		return unreachable("no answer", why)
	case e.cause == nil:
		return &Error{Code: Unreachable, Detail: e.Detail, RetryAfter: e.RetryAfter, cause: why}
	}
	return &Error{Code: Unreachable, Detail: e.Detail, RetryAfter: e.RetryAfter, cause: fmt.Errorf("%w; %w", e.cause, why)}
}

// once sends the call once. Errors: *Error with the code of a refusal, or with Unreachable when the answer says neither yes
// nor no; then the next attempt goes to the next server.
func (c *Caller) once(ctx context.Context, timeout time.Duration, call Call) (Answer, error) {
	n := c.current.Load()
	answer, err := c.send(ctx, timeout, c.servers[int(n)%len(c.servers)], call)
	if errors.Is(err, Unreachable) {
		c.current.CompareAndSwap(n, n+1)
	}
	return answer, err
}

func (c *Caller) send(ctx context.Context, timeout time.Duration, server string, call Call) (Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	var body io.Reader
	if call.Body != nil {
		text, err := json.Marshal(call.Body)
		if err != nil {
			return Answer{}, err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, call.Method, server+call.Path, body)
	if err != nil {
		return Answer{}, err
	}
	header := map[string]string{
		"Authorization": "Bearer " + c.key, "Content-Type": "application/json", "User-Agent": "ledger-client-go",
		"Idempotency-Key": call.IdempotencyKey, "Ledger-Min-Position": call.MinPosition,
		"Ledger-Reason": call.Reason,
	}
	for name, value := range header {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	response, err := c.http.Do(request)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%s: %w", server, cause) // in place of "context deadline exceeded"
		}
		return Answer{}, unreachable("no answer", err)
	}
	defer response.Body.Close()
	answer := Answer{Status: response.StatusCode, Position: response.Header.Get("Ledger-Position")}
	answer.Body, err = io.ReadAll(io.LimitReader(response.Body, bodyMax))
	switch {
	case err != nil:
		return Answer{}, unreachable("the answer broke off", err)
	case answer.Status >= 200 && answer.Status < 300 && json.Valid(answer.Body):
		return answer, nil
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	refused := refusal(answer.Status, time.Duration(seconds)*time.Second, answer.Body)
	switch {
	case refused == nil: // a proxy, a captive portal, a wrong address
		e := unreachable(fmt.Sprintf("%s answered %s, which is no answer of a ledger", server, response.Status), nil)
		e.RetryAfter = time.Duration(seconds) * time.Second
		return Answer{}, e
	case answer.Status >= 500 || answer.Status == http.StatusTooManyRequests:
		return Answer{}, unreachable(server+" cannot answer now", refused)
	}
	return Answer{}, refused
}

// backoff returns the pause before attempt+1, from least to most: twice as long each time, and a random part of it, so that
// many clients of a server that comes back do not come at once.
func backoff(attempt int, least, most time.Duration) time.Duration {
	pause := min(least<<min(attempt, 20), most)
	return pause/2 + mathrand.N(pause/2+1)
}

// NewIdempotencyKey returns a random key.
func NewIdempotencyKey() string { return rand.Text() }

// sleep waits for d and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
