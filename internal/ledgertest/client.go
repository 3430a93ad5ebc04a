package ledgertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Client is a client of the API.
type Client struct {
	Commands, Queries string // base addresses
	Operator          string
}

// Up starts the all-in-one process on a data folder and waits until it is ready.
func Up(t testing.TB, data string, args ...string) (*Process, *Client) {
	t.Helper()
	return UpAt(t, FreeAddr(t), data, args...)
}

// UpAt is Up at an address, such as that of one that was killed.
func UpAt(t testing.TB, addr, data string, args ...string) (*Process, *Client) {
	t.Helper()
	p := Launch(t, nil, "ledger", append([]string{"up", "--addr", addr, "--data", data}, args...)...)
	base := "http://" + addr
	p.AwaitReady(base)
	key, err := os.ReadFile(filepath.Join(data, "operator.key"))
	if err != nil {
		t.Fatal(err)
	}
	return p, &Client{Commands: base, Queries: base, Operator: strings.TrimSpace(string(key))}
}

// Answer is a reply of the API.
type Answer struct {
	Status   int
	Position string
	Body     map[string]any
}

// Code returns the stable code of a problem.
func (a Answer) Code() string { return fmt.Sprint(a.Body["code"]) }

// At returns the value at a path such as "lease.id", as text.
func (a Answer) At(path string) string {
	var value any = a.Body
	for part := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		value = object[part]
	}
	return fmt.Sprint(value)
}

// Items returns the objects of a list.
func (a Answer) Items() []map[string]any {
	list, _ := a.Body["items"].([]any)
	items := make([]map[string]any, len(list))
	for i, item := range list {
		items[i], _ = item.(map[string]any)
	}
	return items
}

// Do sends one request. An error means that the outcome is not known.
func (l *Client) Do(ctx context.Context, method, path, key string, body any, headers map[string]string) (Answer, error) {
	base := l.Commands
	var reader io.Reader
	if method == http.MethodGet {
		base = l.Queries
	} else {
		text, err := json.Marshal(body)
		if err != nil {
			return Answer{}, err
		}
		reader = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, base+path, reader)
	if err != nil {
		return Answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Ledger-Reason", "test")
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	a := Answer{Status: response.StatusCode, Position: response.Header.Get("Ledger-Position")}
	if err := json.NewDecoder(response.Body).Decode(&a.Body); err != nil {
		return Answer{}, err
	}
	if a.Status >= 500 {
		return a, fmt.Errorf("%s %s: %d %v", method, path, a.Status, a.Body)
	}
	return a, nil
}

// Must sends a request that has to be answered with this status.
func (l *Client) Must(t testing.TB, status int, method, path, key string, body any) Answer {
	t.Helper()
	a, err := l.Do(t.Context(), method, path, key, body, nil)
	if err != nil || a.Status != status {
		t.Fatalf("%s %s: %d %v %v, want %d", method, path, a.Status, a.Body, err, status)
	}
	return a
}

// Get reads what stands at position or later.
func (l *Client) Get(t testing.TB, path, position string) Answer {
	t.Helper()
	headers := map[string]string{}
	if position != "" {
		headers["Ledger-Min-Position"] = position
	}
	a, err := l.Do(t.Context(), http.MethodGet, path, l.Operator, nil, headers)
	if err != nil || a.Status != http.StatusOK {
		t.Fatalf("GET %s: %d %v %v", path, a.Status, a.Body, err)
	}
	return a
}

// License makes a tenant with one license and returns the license and its key.
func (l *Client) License(t testing.TB, tenant string, seats, leaseSeconds int) (id, key string) {
	t.Helper()
	l.Must(t, 201, "POST", "/api/v1/tenants", l.Operator, map[string]any{"id": tenant, "name": "Corp " + tenant})
	a := l.Must(t, 201, "POST", "/api/v1/tenants/"+tenant+"/licenses", l.Operator,
		map[string]any{"product": "cad", "seats": seats, "lease_seconds": leaseSeconds})
	return a.At("license.id"), a.At("key")
}

// Holder is the body of an acquire.
func Holder(user string) map[string]any { return map[string]any{"user": user, "machine": "m-" + user} }

// Lease is the body of a heartbeat or a release.
func Lease(id string) map[string]any { return map[string]any{"lease": id} }
