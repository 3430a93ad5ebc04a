package clients

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// shell runs commands as a person does: in the folder of ledger up, with what was exported.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

// run returns what a command prints, both streams, and its exit code.
func (s *shell) run(args ...string) (string, int) {
	s.t.Helper()
	cmd := ledgertest.Command("ledger", args...)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		s.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// prints runs a command that succeeds and checks what it prints, in order.
func (s *shell) prints(args string, want ...string) string {
	s.t.Helper()
	out, code := s.run(strings.Fields(args)...)
	rest := out
	for _, text := range want {
		_, after, ok := strings.Cut(rest, text)
		if !ok {
			s.t.Errorf("ledger %s prints\n%s\nwithout %q in its place", args, out, text)
		}
		rest = after
	}
	if code != 0 {
		s.t.Errorf("ledger %s: exit code %d\n%s", args, code, out)
	}
	return out
}

// fails runs a command that is refused, and checks what it says.
func (s *shell) fails(args string, want ...string) {
	s.t.Helper()
	out, code := s.run(strings.Fields(args)...)
	for _, text := range want {
		if !strings.Contains(out, text) {
			s.t.Errorf("ledger %s says\n%s\nwithout %q", args, out, text)
		}
	}
	if code != 1 {
		s.t.Errorf("ledger %s: exit code %d, want 1", args, code)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, l := ledgertest.Up(t, filepath.Join(dir, "data")) // the operator key is found there
	s := &shell{t: t, dir: dir, env: []string{"LEDGER_SERVER=" + l.Commands, "TZ=UTC"}}
	s.prints("tenant list", "No tenants yet", "ledger tenant create")
	s.prints("tenant create acme Acme", "TENANT  NAME  STATUS", "acme    Acme  active")
	s.fails("tenant create acme Acme", "tenant_exists", "ledger tenant show")
	s.fails("tenant create ACME Acme", "invalid_request")
	s.prints("license list acme", "No licenses yet")
	issued := s.prints("license issue acme cad --seats 2 --lease 90s", "LICENSE", "lic_", "cad", "active", "0", "2", "1m30s", "export LEDGER_LICENSE_KEY=lk_acme_")
	license := regexp.MustCompile(`lic_\w+`).FindString(issued)
	key := regexp.MustCompile(`lk_\w+`).FindString(issued)
	s.fails("acquire", "no license key", "LEDGER_LICENSE_KEY")
	s.env = append(s.env, "LEDGER_LICENSE_KEY="+key)

	acquired := s.prints("acquire --user ada --machine ws-1 --process p1", "LEASE", "lse_", "ada", "ws-1", "p1", "active", "every 30s:  ledger heartbeat lse_", "ledger release lse_")
	lease := regexp.MustCompile(`lse_\w+`).FindString(acquired)
	s.prints("acquire --user ada --machine ws-1 --process p1", lease)
	s.prints("heartbeat "+lease, lease, "active")
	var answer struct{ Lease struct{ ID, User string } }
	if err := json.Unmarshal([]byte(s.prints("acquire --json")), &answer); err != nil || answer.Lease.ID == "" || answer.Lease.User == "" {
		t.Errorf("acquire --json: %v %+v", err, answer)
	}
	s.fails("acquire --user bob", "2 of 2 seats are in use", "--wait 5m")
	await(t, "shown", func() bool {
		return strings.Contains(l.Get(t, "/api/v1/tenants/acme/seats", "").At("items"), answer.Lease.ID)
	})
	s.fails("acquire --user bob --wait 1s", "2 of 2 seats are in use")
	s.prints("license queue acme "+license, "Nobody waits; 2 of 2 seats are in use")

	// Every command says what it would do, and does not do it.
	trial := regexp.MustCompile(`lic_\w+`).FindString(s.prints("license issue acme demo --seats 1 --trial"))
	before := l.Get(t, "/api/v1/tenants/acme/timeline?limit=1000&q=-type:staff.read", "").Items()
	for command, event := range map[string]string{
		"tenant create globex Globex":                           "tenant.created",
		"tenant rename acme Acme-2":                             "tenant.renamed",
		"tenant suspend acme --reason unpaid":                   "tenant.suspended",
		"tenant release acme --user ada":                        "seat.released",
		"tenant release acme --machine ws-1":                    "seat.released",
		"license issue acme cam --seats 3":                      "license.issued",
		"license change acme " + license + " --revive 1m":       "license.policy_changed",
		"license resize acme " + license + " 9":                 "license.resized",
		"license suspend acme " + license:                       "license.suspended",
		"license renew acme " + license + " --until 2030-1-1":   "--until: must be a day such as",
		"license renew acme " + license + " --until 2030-01-01": "license.renewed",
		"license convert acme " + trial:                         "license.trial_converted",
		"license rotate-key acme " + license:                    "license.key_rotated",
		"license evict acme " + license + " " + lease:           "seat.evicted",
		"license revoke acme " + license:                        "license.revoked",
		"tenant reinstate acme":                                 "",
		"license reinstate acme " + license:                     "",
		"license convert acme " + license:                       "",
		"tenant release acme --user nobody":                     "",
	} {
		switch {
		case event == "":
			s.prints(command+" --dry-run", "Nothing would be appended")
		case strings.HasPrefix(event, "--"):
			s.fails(command+" --dry-run", event)
		default:
			s.prints(command+" --dry-run", "WOULD APPEND", "ai.coditect."+event+".v1")
			var answer struct {
				DryRun bool `json:"dry_run"`
				Events []struct{ Type string }
			}
			if err := json.Unmarshal([]byte(s.prints(command+" --dry-run --json")), &answer); err != nil || !answer.DryRun || len(answer.Events) != 1 {
				t.Errorf("ledger %s --dry-run --json: %v %+v", command, err, answer)
			}
		}
	}
	if after := l.Get(t, "/api/v1/tenants/acme/timeline?limit=1000&q=-type:staff.read", "").Items(); len(after) != len(before) {
		t.Errorf("dry runs left %d events", len(after)-len(before))
	}
	s.fails("tenant show globex", "tenant_not_found")
	s.fails("license suspend acme lic_none --dry-run", "license_not_found")
	s.fails("tenant release acme", "--user")
	s.prints("license revoke acme "+trial+" --yes", "revoked")

	s.prints("status", "acme", "2", "2", "2")
	s.prints("status acme", license, "2 of 2 seats in use", "LEASE", answer.Lease.ID, lease)
	var status struct {
		InUse  int `json:"in_use"`
		Leases []any
	}
	if err := json.Unmarshal([]byte(s.prints("status acme --json")), &status); err != nil || status.InUse != 2 || len(status.Leases) != 2 {
		t.Errorf("status --json: %v %+v", err, status)
	}
	s.prints("release "+lease, lease, "released")
	s.prints("release "+lease, lease, "released")
	s.fails("heartbeat "+lease, "lease_released", "ledger acquire")
	s.fails("heartbeat lse_none", "lease_not_found")

	s.prints("tenant rename acme Acme-2", "Acme-2")
	s.prints("tenant suspend acme --reason unpaid", "suspended")
	s.prints("tenant reinstate acme --dry-run", "tenant.reinstated")
	s.fails("acquire --user bob", "tenant_suspended", "ledger tenant reinstate")
	s.prints("tenant reinstate acme", "active")
	s.prints("tenant show acme", "Acme-2", "active")
	s.fails("tenant show globex", "tenant_not_found", "ledger tenant list")
	s.prints("tenant list", "Acme-2")
	s.prints("license resize acme "+license+" 7", license, "7")
	s.prints("license suspend acme "+license+" --reason audit", "suspended")
	s.prints("license reinstate acme "+license+" --dry-run", "license.reinstated")
	s.prints("license reinstate acme "+license, "active")
	s.prints("license show acme "+license, "cad", "7")
	s.prints("license list acme", license)
	s.prints("license change acme "+license+" --seats 3 --revive 1m --dry-run", "WOULD APPEND", "policy_changed", "resized", license)
	s.prints("license change acme "+license+" --seats 8 --overage 20% --features cam,sim --heartbeat 40s", license, "8")
	s.prints("license show acme "+license, "8", "RULE", "40s", "overage", "20 %", "cam, sim")
	s.prints("license history acme "+license, "seats 7 -> 8", "reinstated", "operator", "status active -> suspended", "audit", "seats 2 -> 7", "issued")
	s.prints("license change acme "+license+" --overage none --features=", license)
	s.fails("license change acme "+license, "Name what to change")
	s.fails("license change acme "+license+" --overage ten%", "--overage 10%")
	s.fails("license change acme "+license+" --heartbeat 90s", "policy_invalid")
	s.fails("license change acme "+license+" --revive 1ms", "whole seconds")
	s.prints("license renew acme "+license+" --until 2020-01-01", "ENDS", license, "2020-01-01")
	s.fails("acquire --user bob", "license_expired", "ledger license renew")
	s.prints("license renew acme "+license+" --forever", license, "never")
	s.fails("license renew acme "+license, "--until")
	s.prints("license convert acme "+license, license)
	rotated := s.prints("license rotate-key acme "+license+" --overlap 1h", "works until", "export LEDGER_LICENSE_KEY=lk_acme_")
	s.env[len(s.env)-1] = "LEDGER_LICENSE_KEY=" + regexp.MustCompile(`lk_\w+`).FindString(rotated)
	seat := regexp.MustCompile(`lse_\w+`).FindString(s.prints("acquire --user carol"))
	s.prints("license evict acme "+license+" "+seat+" --reason idle", seat, "carol", "evicted")
	s.fails("heartbeat "+seat, "lease_evicted", "ledger acquire")
	s.prints("acquire --user dan")
	s.prints("tenant release acme --user dan", "dan", "released")
	s.prints("tenant release acme --user dan", "No seats were held", "ledger status acme")
	s.fails("license revoke acme "+license, "--yes")
	s.prints("license revoke acme "+license+" --yes", "revoked")
	s.fails("acquire --user bob", "license_revoked")
	s.fails("heartbeat "+answer.Lease.ID, "lease_revoked")
	s.fails("license show acme lic_none", "license_not_found", "ledger license list")

	// Keys and servers that are wrong.
	s.fails("status --operator-key-file /no/such/file", "/no/such/file")
	s.fails("status --server http://ledger.example.com", "no operator key", "LEDGER_OPERATOR_KEY")
	s.fails("acquire --server ledger.example.com", "such as https://")
	elsewhere := &shell{t: t, dir: t.TempDir(), env: []string{"LEDGER_SERVER=" + l.Commands}}
	elsewhere.fails("status", "no operator key", "--data")
	elsewhere.prints("status --operator-key-file "+filepath.Join(dir, "data", "operator.key"), "acme")
	elsewhere.prints("status --data "+filepath.Join(dir, "data"), "acme")
	elsewhere.env = append(elsewhere.env, "LEDGER_OPERATOR_KEY="+l.Operator)
	elsewhere.prints("status", "acme")
	elsewhere.env = append(elsewhere.env, "LEDGER_OPERATOR_KEY=op_wrong", "LEDGER_LICENSE_KEY=lk_wrong")
	elsewhere.fails("status", "unauthorized", "LEDGER_OPERATOR_KEY")
	elsewhere.fails("acquire", "unauthorized", "Copy it again")
}

// The next line of a script sees what a command did: the command asks for its position, and again while the rows are behind. When they do
// not come, it says so.
func TestCommandsWaitForTheirEffect(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // of what follows
	var asked []string
	never := false // do the rows come
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Ledger-Min-Position"))
		switch {
		case r.Method == http.MethodPost:
			w.Header().Set("Ledger-Position", "p1")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"tenant":{"id":"acme","name":"Acme","status":"active","created_at":"2026-01-02T03:04:05Z"}}`)
		case never, len(asked) == 2:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"code":"projection_behind"}`)
		default:
			fmt.Fprint(w, `{"items":[]}`)
		}
	}))
	defer api.Close()
	s := &shell{t: t, dir: t.TempDir(), env: []string{"LEDGER_SERVER=" + api.URL, "LEDGER_OPERATOR_KEY=op_x"}}
	s.prints("tenant create acme Acme", "acme")
	const partitions = "GET /api/v1/ledger/partitions p1" // needs no reason
	mu.Lock()
	if got := strings.Join(asked, ", "); got != "POST /api/v1/tenants , "+partitions+", "+partitions {
		t.Errorf("asked %s", got)
	}
	never = true
	mu.Unlock()
	s.prints("tenant create acme Acme", "acme", "It is done, but queries do not show it yet")
}

func TestHelpAndCompletion(t *testing.T) {
	t.Parallel()
	s := &shell{t: t, dir: t.TempDir(), env: []string{"SHELL=/bin/bash"}}
	for _, args := range []string{"", "--help"} {
		s.prints(args, "ledger up", "ledger tenant create", "ledger run -- PROGRAM", "Manage (operator key)")
	}
	s.prints("run --help", "Exit codes", "--on-lost", "$LEDGER_LICENSE_KEY")
	s.prints("license issue --help", "Example", "--seats")
	s.fails("license isue", "did you mean", "--help")
	s.prints("completion", "complete -C", "ledger")
	s.env = append(s.env, "COMP_LINE=ledger license re", "COMP_POINT=17")
	s.prints("", "re")
	if out, _ := s.run(); !strings.Contains(out, "revoke\n") || !strings.Contains(out, "resize\n") || strings.Contains(out, "issue") {
		t.Errorf("completes license re with %q", out)
	}
}
