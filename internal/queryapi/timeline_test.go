package queryapi

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// story is a tenant with one event of many kinds; the numbers are versions.
func (f *fixture) story(t *testing.T) {
	t.Helper()
	f.Name("acme", "u_ada", eventstore.UserName, "Ada L.")
	f.Name("acme", "u_bob", eventstore.UserName, "Bob")
	f.Name("acme", "m_2", eventstore.MachineName, "ws 2")
	f.Create("acme", "lic_1", 2)                                                             // 1 created, 2 issued
	f.Issue("acme", "lic_2", 1)                                                              // 3
	f.commit(t)                                                                              // 09:00:00
	f.Acquire("acme", "lic_1", "ada")                                                        // 4 lse_1
	f.Acquire("acme", "lic_1", "bob")                                                        // 5 lse_2
	f.Acquire("acme", "lic_1", "cem@m_2")                                                    // 6 denied
	f.commit(t)                                                                              // 09:00:01
	f.Do("acme", domain.HeartbeatSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}}) // 7
	f.Acquire("acme", "lic_2", "ada")                                                        // 8 lse_4
	f.commit(t)                                                                              // 09:00:02
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}})   // 9
	f.Do("acme", domain.EvictLease{License: "lic_1", Lease: "lse_2", Reason: "moved"})       // 10
	f.Do("acme", domain.SuspendLicense{License: "lic_1", Reason: "unpaid"})                  // 11
	f.commit(t)                                                                              // 09:00:03
	f.Do("acme", domain.RevokeLicense{License: "lic_2", Reason: "fraud"})                    // 12 ends lse_4
	f.Do("acme", domain.RenameTenant{Name: "New"})                                           // 13
	f.Create("globex", "lic_1", 3)
	f.Acquire("globex", "lic_1", "eve")
	f.commit(t) // 09:00:04
	if v := f.Tenant("acme").Version; v != 13 {
		t.Fatalf("the story has %d events", v)
	}
}

// entries returns tenant and version of the entries that a query finds, page by page.
func (f *fixture) entries(t *testing.T, path, q string, limit int) string {
	t.Helper()
	var found []string
	for _, item := range f.items(t, path+"?q="+url.QueryEscape(q), limit) {
		var entry api.AuditEntry
		if err := json.Unmarshal([]byte(item), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Event.Tenant != "acme" || path == "/audit" {
			entry.Event.Version = string(entry.Event.Tenant) + "/" + entry.Event.Version
		}
		found = append(found, entry.Event.Version)
	}
	return strings.Join(found, " ")
}

func TestTimelineIsAsked(t *testing.T) {
	f := setup(t)
	f.story(t)
	for q, want := range map[string]string{
		"":                                     "13 12 11 10 9 8 6 5 4 3 2 1",
		"type:seat.denied":                     "6",
		"type:seat.denied type:tenant.renamed": "13 6",
		"type:seat.*":                          "10 9 8 6 5 4",
		"type:license.*":                       "12 11 3 2",
		"-type:seat.*":                         "13 12 11 3 2 1",
		"-type:seat.* -type:license.*":         "13 1",
		"type:seat.* -type:seat.denied":        "10 9 8 5 4",
		"license:lic_2":                        "12 8 3",
		"-license:lic_1":                       "13 12 8 3 1",
		`user:"Ada L."`:                        "9 8 4",
		"user:u_ada":                           "9 8 4",
		"user:u_cem":                           "6",
		"user:Ada":                             "",
		`user:Bob user:"Ada L."`:               "10 9 8 5 4",
		`user:Bob -type:seat.evicted`:          "5",
		`-user:Bob type:seat.*`:                "9 8 6 4",
		`user:"Ada L." license:lic_1`:          "9 4",
		"machine:m_1":                          "10 9 8 5 4",
		`machine:"ws 2"`:                       "6",
		`machine:"ws 2" machine:m_1 user:Bob`:  "10 5",
		`-machine:m_1 type:seat.*`:             "6",
		"machine:Bob":                          "",
		"lease:lse_1":                          "9 4",
		"lease:lse_2":                          "10 5",
		"lease:lse_4":                          "12 8", // ended by the end of its license
		"lease:lse_9":                          "",
		"lease:lse":                            "",
		"lease:lse_1 lease:lse_2":              "10 9 5 4",
		"actor:operator":                       "13 12 11 10 9 8 6 5 4 3 2 1",
		"actor:op*":                            "13 12 11 10 9 8 6 5 4 3 2 1",
		"actor:op":                             "",
		"-actor:operator":                      "",
		"after:2026-03-01T09:00:03Z":           "13 12 11 10 9",
		"before:2026-03-01T09:00:02Z":          "6 5 4 3 2 1",
		"after:2026-03-01T09:00:01Z before:2026-03-01T09:00:02Z": "6 5 4",
		"before:2026-03-01":                     "",
		"after:2026-03-02":                      "",
		"after:2025-03-02 before:2027-01-01":    "13 12 11 10 9 8 6 5 4 3 2 1",
		`user:"' OR '1'='1" type:seat.acquired`: "",
	} {
		for _, limit := range []int{2, 1000} {
			if got := f.entries(t, "/tenants/acme/timeline", q, limit); got != want {
				t.Errorf("%s by %d: %s, not %s", q, limit, got, want)
			}
		}
	}
	for _, path := range []string{"/tenants/acme/timeline", "/audit"} {
		answer := f.refused(t, http.StatusBadRequest, "invalid_request", "q", path+"?q=user:ada+denied")
		if !strings.Contains(answer.body, "q, at character 10: a word alone has no meaning here") {
			t.Error(answer.body)
		}
		f.refused(t, http.StatusBadRequest, "invalid_request", "q", path+"?q=%00")
	}
	f.refused(t, http.StatusBadRequest, "invalid_request", "q", "/tenants/acme/timeline?q=tenant:acme")
	next := url.QueryEscape(f.anyPage(t, "/tenants/acme/timeline?limit=1&q=type:seat.*").Next)
	f.refused(t, http.StatusBadRequest, "invalid_request", "cursor", "/tenants/acme/timeline?q=type:license.*&cursor="+next)
}

// What a license got or lost, who asked for it, who gave it back, and who was refused for lack of it.
func TestTimelineOfAFeature(t *testing.T) {
	f := setup(t)
	acquire := func(lease domain.LeaseID, user string, features ...string) {
		f.Do("acme", domain.AcquireSeat{License: "lic_1", Lease: lease, Holder: domain.Holder{User: domain.Pseudonym(user), Machine: "m_1"}, Features: features})
	}
	f.Create("acme", "lic_1", 3)
	features := domain.PolicyChange{Features: new([]string{"5 axes", "cam"})}
	f.Do("acme", domain.ChangeLicense{License: "lic_1", Policy: features}) // 3
	acquire("lse_1", "u_ada", "cam", "5 axes")                             // 4
	acquire("lse_2", "u_bob", "cam")                                       // 5
	acquire("lse_3", "u_cem", "cam", "weld")                               // 6 denied for lack of weld
	f.commit(t)
	f.Do("acme", domain.ReleaseSeats{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}}) // 7
	f.Do("acme", domain.EvictLease{License: "lic_1", Lease: "lse_2"})                      // 8
	f.Do("acme", domain.RevokeLicense{License: "lic_1"})                                   // 9
	f.commit(t)
	for q, want := range map[string]string{
		"feature:cam":                               "8 7 5 4 3",
		`feature:"5 axes"`:                          "7 4 3",
		`feature:cam -feature:"5 axes"`:             "8 5",
		"feature:weld feature:cam type:seat.*":      "8 7 6 5 4",
		"feature:weld type:seat.denied":             "6",
		"-feature:cam":                              "9 6 2 1",
		"feature:cam user:u_ada machine:m_1":        "7 4",
		"feature:ca":                                "",
		"feature:cam after:2026-03-01T09:00:01Z":    "8 7",
		"feature:cam before:2026-03-01T09:00:01Z":   "5 4 3",
		"feature:cam license:lic_1 -type:seat.*":    "3",
		"feature:cam lease:lse_2 type:seat.*":       "8 5",
		"feature:cam feature:weld -user:u_ada":      "8 6 5 3",
		"feature:cam -actor:operator":               "",
		`feature:cam feature:"5 axes" user:u_bob`:   "8 5",
		`feature:cam -feature:weld user:u_cem`:      "",
		`type:license.* feature:"5 axes"`:           "3",
		`type:license.* -feature:cam license:lic_1`: "9 2",
	} {
		for _, limit := range []int{2, 1000} {
			if got := f.entries(t, "/tenants/acme/timeline", q, limit); got != want {
				t.Errorf("%s by %d: %s, not %s", q, limit, got, want)
			}
		}
		if got := f.entries(t, "/audit", "tenant:acme "+q, 1000); strings.ReplaceAll(got, "acme/", "") != want {
			t.Errorf("%s in the audit: %s, not %s", q, got, want)
		}
	}
}

func TestAnEntrySaysWhatAndWhy(t *testing.T) {
	f := setup(t)
	f.story(t)
	rows, err := csv.NewReader(strings.NewReader(f.file(t, "/tenants/acme/timeline?sort=time", "text/csv", "acme-timeline.*").body)).ReadAll()
	if err != nil || len(rows) != 13 {
		t.Fatal(err, rows)
	}
	for i, want := range map[int]string{
		6:  "2026-03-01T09:00:01Z|acme|6|ai.coditect.seat.denied.v1|lic_1||ws 2|lic_1|operator||no_seat_available|||",
		9:  `2026-03-01T09:00:03Z|acme|10|ai.coditect.seat.evicted.v1|lic_1|Bob||lic_1|operator||moved|operator|{"state": "active"}|{"state": "evicted"}`,
		10: `2026-03-01T09:00:03Z|acme|11|ai.coditect.license.suspended.v1|lic_1|||lic_1|operator||unpaid||{"status": "active"}|{"status": "suspended"}`,
		11: `2026-03-01T09:00:04Z|acme|12|ai.coditect.license.revoked.v1|lic_2|||lic_2|operator||fraud||{"status": "active"}|{"status": "revoked"}`,
	} {
		if got := strings.Join(rows[i], "|"); got != want {
			t.Errorf("row %d:\n%s, not\n%s", i, got, want)
		}
	}
	page := ok[api.Timeline](t, f, "/tenants/acme/timeline?q=type:seat.evicted")
	if len(page.Items) != 1 {
		t.Fatalf("%+v", page)
	}
	entry := page.Items[0]
	if *entry.User != "Bob" || *entry.Reason != "moved" || *entry.Cause != "operator" || (*entry.After)["state"] != "evicted" || *entry.License != "lic_1" {
		t.Errorf("%+v", entry)
	}
}

func TestAudit(t *testing.T) {
	f := setup(t)
	f.story(t)
	// What programs do is told from what people do by its actor; in a history by hand all are the operator's.
	if _, err := f.db.Exec(deadline(t), `UPDATE read.audit_entries SET traffic = true, actor = 'key:k1' WHERE type LIKE '%.seat.acquired.%'`); err != nil {
		t.Fatal(err)
	}
	for q, want := range map[string]string{
		"":              "globex/2 globex/1 acme/13 acme/12 acme/11 acme/10 acme/9 acme/6 acme/3 acme/2 acme/1",
		"tenant:globex": "globex/3 globex/2 globex/1",
		"-tenant:acme":  "globex/2 globex/1",
		"tenant:globex tenant:acme type:tenant.created": "globex/1 acme/1",
		"tenant:nobody":                              "",
		"tenant:acme actor:key:k1":                   "acme/8 acme/5 acme/4",
		"actor:key:k1":                               "",
		"actor:operator type:license.*":              "globex/2 acme/12 acme/11 acme/3 acme/2",
		"type:seat.*":                                "acme/10 acme/9 acme/6",
		"before:2026-03-01T09:00:01Z":                "acme/3 acme/2 acme/1",
		"after:2026-03-01T09:00:04Z -type:license.*": "globex/1 acme/13",
		`tenant:acme user:Bob`:                       "acme/10 acme/5",
	} {
		for _, limit := range []int{1, 1000} {
			if got := f.entries(t, "/audit", q, limit); got != want {
				t.Errorf("%s by %d: %s, not %s", q, limit, got, want)
			}
		}
	}
	for _, q := range []string{"user:Bob", "machine:m_1", "feature:cam", "lease:lse_1", "license:lic_1", "tenant:a tenant:b user:Bob"} {
		answer := f.refused(t, http.StatusBadRequest, "invalid_request", "q", "/audit?q="+url.QueryEscape(q))
		if !strings.Contains(answer.body, "add one, as in tenant:acme") {
			t.Error(answer.body)
		}
	}
	ok[api.Audit](t, f, "/audit")
	if lines := strings.Count(f.file(t, "/audit", "application/jsonl", "audit-.*").body, "\n"); lines != 11 {
		t.Errorf("%d lines", lines)
	}
}

func TestVersionBeforeAnInstant(t *testing.T) {
	f := setup(t)
	f.Create("acme", "lic_1", 1)
	f.commit(t)
	random := rand.New(rand.NewPCG(1, 2))
	version := 2
	for i := range 200 { // with gaps, where heartbeats were, and several at one instant
		version += 1 + random.IntN(4)
		_, err := f.db.Exec(deadline(t), `INSERT INTO read.audit_entries
			(tenant_id, version, partition, seq, index, type, time, subject, actor, command, event, license_id, "user", machine, reason, cause, traffic)
			VALUES ('acme', $1, 0, 1, 0, 't', $2, '', '', '', '{}', '', '', '', '', '', false)`, version, f.Now.Add(time.Duration(i/3)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 90 {
		at := f.Now.Add(time.Duration(i-10) * time.Second)
		var wrong int
		err := f.db.QueryRow(deadline(t), `
			WITH v AS (SELECT read.version_before('acme', $1) AS version)
			SELECT count(*) FROM read.audit_entries e, v WHERE e.tenant_id = 'acme' AND (e.version <= v.version) <> (e.time < $1)`, at).Scan(&wrong)
		if err != nil || wrong != 0 {
			t.Fatalf("at %s: %d entries are on the wrong side, %v", at, wrong, err)
		}
	}
}

func TestALeaseFromItsAcquireToItsEnd(t *testing.T) {
	f := setup(t)
	f.story(t)
	for id, want := range map[string]string{
		"lse_1": "acquired released, 1 heartbeats, released by operator  ",
		"lse_2": "acquired evicted, 0 heartbeats, evicted by operator moved operator",
		"lse_4": "acquired revoked, 0 heartbeats, revoked by operator fraud ",
	} {
		life := ok[api.LeaseLife](t, f, "/tenants/acme/leases/"+id)
		var kinds []string
		for _, e := range life.Events {
			kinds = append(kinds, strings.Split(e.Event.Type, ".")[3])
		}
		end := life.Ended
		got := fmt.Sprintf("%s, %d heartbeats, %s by %s %s %s", strings.Join(kinds, " "), life.Heartbeats, end.State, end.Actor, value(end.Reason), value(end.Cause))
		if got != want || !end.At.Equal(*life.Lease.EndedAt) || life.EventsMore || life.Lease.Id != id {
			t.Errorf("%s: %s, not %s; %+v", id, got, want, life)
		}
		link := ok[api.Timeline](t, f, strings.TrimPrefix(life.Timeline, "/api/v1"))
		if len(link.Items) != len(life.Events) {
			t.Errorf("%s has %d events, but %s has %d", id, len(life.Events), life.Timeline, len(link.Items))
		}
	}
	life := ok[api.LeaseLife](t, f, "/tenants/acme/leases/lse_1")
	if want := f.Now.Add(-3 * time.Second); !life.RenewedAt.Equal(want) || life.Names["u_ada"] != "Ada L." {
		t.Errorf("renewed at %s, not %s; %v", life.RenewedAt, want, life.Names)
	}
	if life := ok[api.LeaseLife](t, f, "/tenants/globex/leases/lse_5"); life.Ended != nil || len(life.Events) != 1 {
		t.Errorf("an active lease: %+v", life)
	}
	f.refused(t, http.StatusNotFound, "lease_not_found", "", "/tenants/acme/leases/lse_5")
	f.refused(t, http.StatusNotFound, "lease_not_found", "", "/tenants/acme/leases/%00")
	f.refused(t, http.StatusNotFound, "tenant_not_found", "", "/tenants/nobody/leases/lse_1")
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func TestDenials(t *testing.T) {
	f := setup(t)
	f.story(t)
	f.Do("acme", domain.ReinstateLicense{License: "lic_1"})                                                              // 14
	f.Do("acme", domain.AcquireSeat{License: "lic_2", Lease: "x", Holder: domain.Holder{User: "u_ada", Machine: "m_1"}}) // 15 denied: revoked
	f.commit(t)                                                                                                          // 09:00:05
	list := ok[api.DenialList](t, f, "/tenants/acme/denials")
	if len(list.Items) != 2 {
		t.Fatalf("%+v", list)
	}
	if d := list.Items[1]; d.Id != 6 || d.License != "lic_1" || d.User != "" || d.Reason != "no_seat_available" || d.Count != 1 || d.Seats != 2 || d.InUse != 2 {
		t.Errorf("%+v", d)
	}
	if d := list.Items[0]; d.Id != 15 || d.License != "lic_2" || d.User != "Ada L." || d.Reason != "license_revoked" {
		t.Errorf("%+v", d)
	}
	for _, d := range list.Items {
		link := ok[api.Timeline](t, f, strings.TrimPrefix(d.Timeline, "/api/v1"))
		if len(link.Items) != 1 || link.Items[0].Event.Version != strconv.FormatInt(d.Id, 10) {
			t.Errorf("%s: %+v", d.Timeline, link.Items)
		}
	}
	for path, want := range map[string]int{
		"?license=lic_1": 1, "?user=Ada+L.": 1, "?user=u_cem": 1, "?user=nobody": 0, "?machine=m_2": 1, "?machine=m2": 0, "?reason=license_revoked": 1, "?reason=x": 0,
		"?from=2026-03-01T09:00:05Z": 1, "?to=2026-03-01T09:00:05Z": 1, "?from=2026-03-01T09:00:01Z&to=2026-03-01T09:00:06Z": 2, "?sort=time": 2,
	} {
		if got := len(f.items(t, "/tenants/acme/denials"+path, 1)); got != want {
			t.Errorf("%s: %d, not %d", path, got, want)
		}
	}
	if rows := strings.Count(f.file(t, "/tenants/acme/denials", "text/csv", "acme-denials-.*").body, "\n"); rows != 3 {
		t.Errorf("%d rows", rows)
	}
}

func TestLedgerProgress(t *testing.T) {
	f := setup(t)
	f.example(t)
	acme := int(f.store.Info().PartitionOf("acme"))
	progress := func() (api.PartitionProgress, map[string]api.ProjectionProgress) {
		t.Helper()
		partitions, all := ok[api.LedgerPartitions](t, f, "/ledger/partitions"), ok[api.LedgerProjections](t, f, "/ledger/projections")
		of := map[string]api.ProjectionProgress{}
		for _, p := range all.Items {
			if p.Partition == acme {
				of[p.Projection] = p
			}
		}
		return partitions.Items[acme], of
	}
	partition, of := progress()
	if partition.Head != 2 || partition.Reached != 2 || partition.LagCommits != 0 || partition.CommitsPerSecond != nil || partition.ReachedAt == nil {
		t.Errorf("%+v", partition)
	}
	if p := of["leases"]; p.State != "current" || p.Seq != 2 || p.Head != 2 || p.UpdatedAt == nil || p.LagSeconds > 60 {
		t.Errorf("%+v", p)
	}
	f.Do("acme", domain.RenameTenant{Name: "x"})
	f.Commit()
	if _, err := f.db.Exec(deadline(t), `UPDATE read.checkpoints SET seq = 1 WHERE projection = 'leases' AND partition = $1`, acme); err != nil {
		t.Fatal(err)
	}
	f.forgetHeads()
	past := func(marks map[projectionOf][]head) {
		for _, all := range marks {
			all[0].at = all[0].at.Add(-10 * time.Second)
		}
	}
	past(f.api.progress.projections.marks)
	partition, of = progress()
	if partition.Head != 3 || partition.Reached != 1 || partition.LagCommits != 2 {
		t.Errorf("%+v", partition)
	}
	if p := of["leases"]; p.State != "rebuilding" || p.LagCommits != 2 {
		t.Errorf("%+v", p)
	}
	if p := of["tenants"]; p.State != "behind" || p.LagCommits != 1 || p.CommitsPerSecond == nil || *p.CommitsPerSecond != 0 {
		t.Errorf("%+v", p)
	}
	f.refused(t, http.StatusBadRequest, "invalid_request", "x", "/ledger/partitions?x=1")
}

// forgetHeads makes the next question look where the partitions end.
func (f *fixture) forgetHeads() {
	f.api.heads.mu.Lock()
	defer f.api.heads.mu.Unlock()
	f.api.heads.seen = nil
}

func TestRates(t *testing.T) {
	t.Parallel()
	var r rates[string]
	start := time.Now()
	at := func(seconds float64, seq uint64) string {
		rate := r.note("k", seq, start.Add(time.Duration(seconds*float64(time.Second))))
		if rate == nil {
			return "unknown"
		}
		return fmt.Sprintf("%.1f", *rate)
	}
	for i, step := range []struct {
		seconds float64
		seq     uint64
		want    string
	}{
		{0, 100, "unknown"}, {0.5, 110, "unknown"}, {2, 120, "10.0"}, {4, 120, "5.0"}, {62, 700, "9.7"}, {63, 0, "unknown"}, {65, 50, "25.0"},
	} {
		if got := at(step.seconds, step.seq); got != step.want {
			t.Errorf("step %d: %s, not %s", i, got, step.want)
		}
	}
}

func TestTimelineReadsIndexes(t *testing.T) {
	f, explain := spied(t)
	f.Name("t0", "u_1", eventstore.UserName, "ada")
	f.Create("t0", "lic_1", 1)
	f.commit(t)
	for _, sql := range []string{
		`INSERT INTO read.audit_entries
				(tenant_id, version, partition, seq, index, type, time, subject, actor, command, event, license_id, "user", machine, reason, cause, traffic)
			SELECT 't' || i % 20, 10 + i, 0, i, 0, 'ai.coditect.' || CASE WHEN i % 1000 = 40 THEN 'license.suspended' WHEN i % 100 = 20 THEN 'seat.denied' ELSE 'seat.acquired' END || '.v1',
				now() + i * interval '1 s', '', CASE WHEN i % 1000 = 40 THEN 'operator' ELSE 'key:k' || i % 100 END, '', '{"id": "lse_1"}',
				'lic_' || i % 200, CASE WHEN i % 1000 = 40 THEN '' ELSE 'u_' || i % 300 END, CASE WHEN i % 1000 = 40 THEN '' ELSE 'm_' || i % 300 END, '', '', i % 1000 <> 40
			FROM generate_series(1, 60000) AS i`,
		`INSERT INTO read.audit_entries_of_feature (tenant_id, feature, version) SELECT 't' || i % 20, 'feature ' || i % 400, 10 + i FROM generate_series(1, 60000) AS i`,
		`INSERT INTO read.leases (tenant_id, lease_id, license_id, fence, "user", machine, process, state, acquired_at, expires_at, held, renewed, renewed_at, heartbeats)
			VALUES ('t0', 'lse_1', 'lic_20', 5000, 'u_1', 'm_1', '', 'active', now(), now(), '{[5000,)}', 1, now(), 0)`,
		`INSERT INTO read.denials (tenant_id, version, time, license_id, "user", machine, process, reason, count, seats, in_use)
			SELECT 't' || i % 20, i, now(), 'lic_' || i % 200, 'u_' || i % 300, 'm_' || i % 300, '', 'reason_' || i % 400, 1, 1, 1 FROM generate_series(1, 20000) AS i`,
		`INSERT INTO read.directory (tenant_id, pseudonym, kind, text)
			SELECT 't' || i % 20, 'u_' || i, 'user', 'name ' || i FROM generate_series(2, 3000) AS i`,
		`ANALYZE`,
	} {
		if _, err := f.db.Exec(deadline(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	q := func(path, query string) string { return path + "?q=" + url.QueryEscape(query) }
	checkPlans(t, explain, map[string]string{
		q("/tenants/t0/timeline", ""):                                                 "audit_entries_pkey",
		q("/tenants/t0/timeline", "type:seat.acquired"):                               "audit_entries_pkey",
		q("/tenants/t0/timeline", "-type:seat.*"):                                     "audit_entries_pkey",
		q("/tenants/t0/timeline", "after:2026-01-01 before:2030-01-01"):               "audit_entries_pkey",
		q("/tenants/t0/timeline", "type:license.suspended"):                           "audit_entries_of_type",
		q("/tenants/t0/timeline", "type:license.suspended before:2030-01-01"):         "audit_entries_of_type",
		q("/tenants/t0/timeline", "license:lic_20"):                                   "audit_entries_of_license_id",
		q("/tenants/t0/timeline", "lease:lse_1"):                                      "audit_entries_of_license_id",
		q("/tenants/t0/timeline", "user:ada"):                                         "audit_entries_of_user",
		q("/tenants/t0/timeline", "machine:m_20"):                                     "audit_entries_of_machine",
		q("/tenants/t0/timeline", `feature:"feature 20"`):                             "audit_entries_of_feature_pkey",
		q("/tenants/t0/timeline", `feature:"feature 20" before:2030-01-01 -user:ada`): "audit_entries_of_feature_pkey",
		q("/tenants/t0/timeline", `-feature:"feature 20"`):                            "audit_entries_of_feature_pkey",
		q("/tenants/t0/timeline", "actor:operator"):                                   "audit_entries_of_actor",
		q("/audit", ""): "audit_entries_of_all",
		q("/audit", "type:license.* actor:operator before:2030-01-01"): "audit_entries_of_all",
		q("/audit", "tenant:t0 machine:m_20"):                          "audit_entries_of_machine",
		q("/audit", "tenant:t0 license:lic_20"):                        "audit_entries_of_license_id",
		"/tenants/t0/denials":                                          "denials_pkey",
		"/tenants/t0/denials?license=lic_20":                           "denials_of_license",
		"/tenants/t0/denials?user=ada":                                 "denials_of_user",
		"/tenants/t0/denials?machine=m_60":                             "denials_of_machine",
		"/tenants/t0/denials?reason=reason_20":                         "denials_of_reason",
		"/tenants/t0/denials?to=2030-01-01T00:00:00Z":                  "denials_pkey",
	})
}
