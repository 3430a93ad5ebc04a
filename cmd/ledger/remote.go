package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coditect-ai/license-ledger/client"
)

// server is how the commands find a running ledger.
type server struct {
	Server string `env:"LEDGER_SERVER" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Address of the ledger; several with commas. Default: ${default}, where ledger up serves."`
}

// output is how the commands answer.
type output struct {
	JSON bool `name:"json" help:"Print the answer as JSON."`
}

// operatorKey is how management commands find the operator's key.
type operatorKey struct {
	OperatorKeyFile string `env:"LEDGER_OPERATOR_KEY_FILE" type:"path" placeholder:"FILE" help:"File with the operator key. Default: operator.key in --data, when the server is on this machine. LEDGER_OPERATOR_KEY, the key itself, comes first."`
	Data            string `env:"LEDGER_DATA" default:"./data" type:"path" help:"Data folder of ledger up, for its operator key."`
}

// licenseKey is how seat commands get the license key.
type licenseKey struct {
	LicenseKey string `env:"LEDGER_LICENSE_KEY" placeholder:"KEY" help:"The license key, lk_… In the environment other users of the machine do not see it."`
}

// holder is who uses a seat.
type holder struct {
	User    string `placeholder:"NAME" help:"Who uses the seat. Default: you."`
	Machine string `placeholder:"NAME" help:"Where. Default: the host's name."`
	Process string `placeholder:"NAME" help:"Tells several programs of one user on one machine apart."`
}

// answerWithin is how long a command waits for the ledger: long enough for most restarts, and not too long for who forgot to start it.
const answerWithin = 5 * time.Second

// do makes one call and decodes its answer into reply. What it returns is what was answered, as it came, and from which
// position on its effect can be read.
func (s server) do(ctx context.Context, key, method, path string, body, reply any) (raw json.RawMessage, position string, err error) {
	call := client.Call{Method: method, Path: path, Body: body}
	if method != http.MethodGet {
		call.IdempotencyKey = client.NewIdempotencyKey()
	}
	answer, err := s.ask(ctx, key, answerWithin, call)
	if err != nil {
		return nil, "", err
	}
	return answer.Body, answer.Position, json.Unmarshal(answer.Body, reply)
}

func (s server) ask(ctx context.Context, key string, within time.Duration, call client.Call) (client.Answer, error) {
	caller, err := client.NewCaller(s.Server, key, nil)
	if err != nil {
		return client.Answer{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("gave up after %v", within))
	defer cancel()
	call.Path = "/api/v1" + call.Path
	return caller.Do(ctx, call)
}

// manager makes the calls of the operator.
type manager struct {
	server
	operatorKey
}

// reader makes the operator's queries about tenants.
type reader struct {
	manager
	Reason string `env:"LEDGER_REASON" default:"command line" placeholder:"TEXT" help:"Why you look. It is recorded, and the tenant sees it in its timeline. Default: ${default}."`
}

// call makes a query with the operator key.
func (r reader) call(ctx context.Context, method, path string, body, reply any) (json.RawMessage, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	answer, err := r.ask(ctx, key, answerWithin, client.Call{Method: method, Path: path, Body: body, Reason: r.Reason})
	if err != nil {
		return nil, err
	}
	return answer.Body, json.Unmarshal(answer.Body, reply)
}

// visibleWithin is how long a command that was done waits until queries see it: so the next line of a script does. When the
// read models are further behind, it is done all the same.
const visibleWithin = 2 * time.Second

// visible waits until queries see what is done up to a position.
func (m manager) visible(ctx context.Context, key, position string) error {
	// No rows of tenants, whose reading would be recorded.
	_, err := m.ask(ctx, key, visibleWithin, client.Call{Method: http.MethodGet, Path: "/ledger/partitions", MinPosition: position})
	return err
}

// key returns the operator key. The key that lies about in a data folder is for the ledger that has it: it is not sent to
// another machine.
func (m manager) key() (string, error) {
	if key := os.Getenv("LEDGER_OPERATOR_KEY"); key != "" {
		return key, nil
	}
	file := m.OperatorKeyFile
	if file == "" {
		if !isLocal(m.Server) {
			return "", hintf("Set LEDGER_OPERATOR_KEY, or name a file with --operator-key-file.", "no operator key for %s", m.Server)
		}
		file = filepath.Join(m.Data, "operator.key")
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && m.OperatorKeyFile == "" {
		return "", hintf("Run this where ledger up runs, or name its folder with --data; else set LEDGER_OPERATOR_KEY or --operator-key-file.",
			"no operator key: there is no %s", file)
	}
	return strings.TrimSpace(string(text)), err
}

// isLocal reports whether all servers are on this machine.
func isLocal(servers string) bool {
	for address := range strings.SplitSeq(servers, ",") {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil {
			return false
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// page is what the lists of the API have in common.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
	// Of seats.
	Seats int `json:"seats,omitempty"`
	InUse int `json:"in_use,omitempty"`
}

// all reads every page of a list.
func all[T any](ctx context.Context, r reader, path string, query url.Values) (page[T], error) {
	whole := page[T]{Items: []T{}}
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "1000")
	for {
		var p page[T]
		if _, err := r.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &p); err != nil {
			return whole, err
		}
		whole.Items, whole.Seats, whole.InUse = append(whole.Items, p.Items...), p.Seats, p.InUse
		if p.Next == "" {
			return whole, nil
		}
		query.Set("cursor", p.Next)
	}
}

// key returns the license key.
func (k licenseKey) key() (string, error) {
	if k.LicenseKey == "" {
		return "", hintf("Set LEDGER_LICENSE_KEY. An operator makes one with: ledger license issue TENANT PRODUCT --seats 5", "no license key")
	}
	return k.LicenseKey, nil
}

// hinted is an error with what to do next.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

func hintf(hint, format string, args ...any) error { return hinted{fmt.Errorf(format, args...), hint} }

// hints say what to do about a refusal.
var hints = map[client.Code]string{
	client.Unreachable:         "Is it running? Start one here with: ledger up. Or name another with --server or LEDGER_SERVER.",
	client.NoSeatAvailable:     "Wait for one with --wait 5m. An operator sees who holds them with: ledger status TENANT",
	client.UserLimitReached:    "Close another program of this user. An operator sees who holds what with: ledger status TENANT",
	client.MachineLimitReached: "Close another program on this machine. An operator sees who holds what with: ledger status TENANT",
	client.BorrowNotAllowed:    "An operator allows it with: ledger license change TENANT LICENSE --borrow-days 7",
	client.BorrowLimitReached:  "One is returned with: ledger release LEASE. An operator sees which with: ledger status TENANT",
	client.LeaseExpired:        "It had no heartbeat in time. Take a new seat with: ledger acquire",
	client.LeaseReleased:       "It was given back. Take a new seat with: ledger acquire",
	client.LeaseEvicted:        "An operator took it back. Take a new seat, if there is one, with: ledger acquire",
	client.LeaseNotFound:       "Is it a lease of this license? ledger acquire prints its id.",
	client.LicenseSuspended:    "An operator reinstates it with: ledger license reinstate TENANT LICENSE",
	client.TenantSuspended:     "An operator reinstates it with: ledger tenant reinstate TENANT",
	client.LicenseExpired:      "An operator renews it with: ledger license renew TENANT LICENSE --until DATE",
	client.LicenseRevoked:      "For good; an operator issues another with: ledger license issue TENANT PRODUCT --seats 5",
	"license_transferring":     "An operator lets it stay with: ledger license transfer TENANT LICENSE --cancel",
	"license_transferred":      "It has another key now. An operator of the tenant that has it gives it a new one with: ledger license rotate-key TENANT LICENSE",
	"leases_moved_before":      "Move it without them, when they have ended, with: ledger license transfer TENANT LICENSE --to OTHER",
	client.LeaseTransferred:    "Its license has another key now. Its program goes on with that one, by the same lease.",
	"member_not_found":         "See who is with: ledger member list TENANT",
	"member_exists":            "Give it another role with: ledger member change TENANT MEMBER --role ROLE",
	"key_not_found":            "See which there are with: ledger key list TENANT",
	"key_over":                 "Make a new one with: ledger key create TENANT NAME --role ROLE",
	"last_owner_key":           "Make another first with: ledger key create TENANT NAME --role owner",
	"tenant_not_found":         "See which there are with: ledger tenant list",
	"tenant_exists":            "See it with: ledger tenant show TENANT",
	"license_not_found":        "See which there are with: ledger license list TENANT",
}

// hintFor returns what to do about err; empty when nothing is known.
func hintFor(err error) string {
	var h hinted
	var e *client.Error
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.Is(err, client.RateLimited):
		return "The key sends more than it may, all its programs together. Ask less often; who runs the ledger allows more with RATE_…, see docs/ACCESS.md."
	case errors.As(err, &e) && e.Code == client.Unauthorized && strings.Contains(e.Detail, "operator"):
		return "Each ledger has its own key. It is taken from LEDGER_OPERATOR_KEY, else --operator-key-file, else operator.key in --data."
	case errors.As(err, &e) && e.Code == client.Unauthorized:
		return "Copy it again, whole: lk_… Each ledger has its own keys; is --server the right one?"
	case errors.As(err, &e):
		return hints[e.Code]
	}
	return ""
}
