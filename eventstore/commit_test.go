package eventstore

import (
	"bytes"
	"crypto/sha256"
	stdjson "encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain"
)

var update = flag.Bool("update", false, "write the golden files that do not exist yet")

const exampleSource = "/ledgers/000000000001"

// examplePolicy is a policy as it was when it had no reservations.
func examplePolicy() domain.Policy {
	end := time.Date(2026, 1, 2, 3, 14, 5, 678_000_000, time.UTC)
	return domain.Policy{
		LeaseSeconds: 600, HeartbeatSeconds: 120, SeatPer: domain.SeatPerMachine, Overage: domain.OveragePercent, OveragePercent: 10,
		ReviveSeconds: 60, MaxPerUser: 2, MaxPerMachine: 3, Features: []string{"cam", "sim"},
		StartsAt: end.AddDate(-1, 0, 0), ExpiresAt: end.AddDate(1, 0, 0), GraceDays: 7, OnShrink: domain.ShrinkEvictsNewest, Trial: true,
	}
}

// reservingPolicy is one with every field.
func reservingPolicy() domain.Policy {
	policy := examplePolicy()
	policy.Reservations = []domain.Reservation{{Name: "render team", Users: []domain.Pseudonym{"user_0aa1", "user_7c1e"}, Seats: 2, Priority: 1}}
	policy.BorrowDays, policy.BorrowMax, policy.BorrowLowWater = 30, 2, 1
	return policy
}

// examples holds one event of each type, with every field set.
func examples() []domain.Event {
	end := time.Date(2026, 1, 2, 3, 14, 5, 678_000_000, time.UTC)
	holder := domain.Holder{User: "user_7c1e", Machine: "machine_03af", Process: "process_99b0"}
	key := domain.LicenseKey{ID: "key_1", Hash: bytes.Repeat([]byte{0xfb}, 32)}
	policy := reservingPolicy()
	return []domain.Event{
		&WriterEpochStarted{Epoch: 7, Writer: "writer-1"},
		&domain.TenantCreated{Tenant: "acme", Name: "Acme \"Zürich\" <&>"},
		&domain.TenantRenamed{Name: "Umbrella", Was: "Acme"},
		&domain.TenantSuspended{Reason: "unpaid"},
		&domain.TenantReinstated{Reason: "paid"},
		&domain.LicenseIssued{License: "lic_1", Product: "cad", Seats: 5, Policy: policy, Key: key, Transfer: "trf_1", Fences: 71, Leases: 3, InUse: 2},
		&domain.PolicyChanged{License: "lic_1", Policy: policy, Was: domain.Policy{LeaseSeconds: 300}},
		&domain.LicenseRenewed{License: "lic_1", ExpiresAt: end, Was: end.AddDate(-1, 0, 0)},
		&domain.TrialConverted{License: "lic_1"},
		&domain.LicenseKeyRotated{License: "lic_1", Key: key, OldKey: "key_0", OldUntil: end},
		&domain.MemberInvited{User: "user_7c1e", Role: domain.RoleAdmin},
		&domain.MemberRoleChanged{User: "user_7c1e", Role: domain.RoleBilling, Was: domain.RoleAdmin},
		&domain.MemberRemoved{User: "user_7c1e", Was: domain.RoleBilling, Reason: "left"},
		&domain.TenantKeyCreated{Key: key, Name: "ci", Role: domain.RoleAuditor, Member: "user_7c1e"},
		&domain.TenantKeyRotated{Key: key, OldKey: "key_0", OldUntil: end},
		&domain.TenantKeyRevoked{Key: "key_1", Reason: "lost"},
		&domain.StaffRead{Permission: "license.read", Reason: "ticket 4711"},
		&domain.LicenseResized{License: "lic_1", Seats: 7, Was: 5},
		&domain.LicenseSuspended{License: "lic_1", Reason: "abuse"},
		&domain.LicenseReinstated{License: "lic_1", Reason: "resolved"},
		&domain.LicenseRevoked{License: "lic_1", Reason: "fraud", TransferredTo: "globex", Transfer: "trf_1", Kept: 3, OldKeyUntil: end},
		&domain.SeatAcquired{License: "lic_1", Lease: "lse_1", Holder: holder, ExpiresAt: end, Overage: true, Borrowed: true, Features: []string{"cam"}, Fence: 70, AcquiredAt: end.AddDate(0, 0, -1)},
		&domain.SeatBorrowed{License: "lic_1", Lease: "lse_1", ExpiresAt: end},
		&domain.SeatRevived{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}, ExpiresAt: end},
		&domain.SeatEvicted{License: "lic_1", Leases: []domain.LeaseID{"lse_1"}, Cause: domain.EvictedByOperator, Reason: "left"},
		&domain.SeatHeartbeat{License: "lic_1", Leases: []domain.LeaseID{"lse_1", "lse_2"}, ExpiresAt: end},
		&domain.SeatReleased{License: "lic_1", Lease: "lse_1"},
		&domain.SeatExpired{License: "lic_1", Lease: "lse_1"},
		&domain.SeatDenied{
			License: "lic_1", Holder: holder, Reason: domain.NoSeatAvailable, Seats: 5, InUse: 5, RetryAfterSeconds: 42,
			Reserved: 1, Waiting: 4, EstimateSeconds: 120, Feature: "cam", Limit: 2, ValidAt: end, Count: 3,
		},
		&domain.LicenseTransferStarted{License: "lic_1", Transfer: "trf_1", To: "globex", As: "lic_9", Key: key, Reason: "sold"},
		&domain.LicenseTransferCancelled{License: "lic_1", Transfer: "trf_1", Reason: "not sold"},
		&domain.LicenseTransferCompleted{License: "lic_1", Transfer: "trf_1"},
		&domain.PersonForgotten{Pseudonym: "user_7c1e", Kind: "user", Reason: "asked"},
		&domain.SeatQueued{License: "lic_1", Holder: holder, Priority: 5, Position: 3},
		&domain.SeatDequeued{License: "lic_1", Holder: holder, Cause: domain.DequeuedByRefusal, Reason: domain.LicenseIsOff},
	}
}

// olderExamples are events as they were stored before fields were added, oldest first.
func olderExamples() []domain.Event {
	end := time.Date(2026, 1, 2, 3, 14, 5, 678_000_000, time.UTC)
	holder := domain.Holder{User: "user_7c1e", Machine: "machine_03af", Process: "process_99b0"}
	return []domain.Event{
		&domain.LicenseIssued{
			License: "lic_1", Product: "cad", Seats: 5, Policy: domain.Policy{LeaseSeconds: 300},
			Key: domain.LicenseKey{ID: "key_1", Hash: bytes.Repeat([]byte{0xfb}, 32)},
		},
		&domain.SeatAcquired{License: "lic_1", Lease: "lse_1", Holder: holder, ExpiresAt: end},
		&domain.SeatDenied{License: "lic_1", Holder: holder, Reason: domain.NoSeatAvailable, Seats: 5, InUse: 5, RetryAfterSeconds: 42},

		&domain.LicenseIssued{
			License: "lic_1", Product: "cad", Seats: 5, Policy: examplePolicy(), Key: domain.LicenseKey{ID: "key_1", Hash: bytes.Repeat([]byte{0xfb}, 32)},
		},
		&domain.PolicyChanged{License: "lic_1", Policy: examplePolicy(), Was: domain.Policy{LeaseSeconds: 300}},
		&domain.SeatAcquired{License: "lic_1", Lease: "lse_1", Holder: holder, ExpiresAt: end, Overage: true, Features: []string{"cam"}},
		&domain.SeatDenied{
			License: "lic_1", Holder: holder, Reason: domain.NoSeatAvailable, Seats: 5, InUse: 5, RetryAfterSeconds: 42,
			Feature: "cam", Limit: 2, ValidAt: end,
		},

		&domain.SeatDenied{
			License: "lic_1", Holder: holder, Reason: domain.NoSeatAvailable, Seats: 5, InUse: 5, RetryAfterSeconds: 42,
			Reserved: 1, Feature: "cam", Limit: 2, ValidAt: end, Count: 3,
		},

		&domain.LicenseIssued{
			License: "lic_1", Product: "cad", Seats: 5, Policy: reservingPolicy(), Key: domain.LicenseKey{ID: "key_1", Hash: bytes.Repeat([]byte{0xfb}, 32)},
		},
		&domain.LicenseRevoked{License: "lic_1", Reason: "fraud"},

		&domain.LicenseIssued{
			License: "lic_1", Product: "cad", Seats: 5, Policy: reservingPolicy(), Key: domain.LicenseKey{ID: "key_1", Hash: bytes.Repeat([]byte{0xfb}, 32)},
			Transfer: "trf_1",
		},
		&domain.SeatAcquired{License: "lic_1", Lease: "lse_1", Holder: holder, ExpiresAt: end, Overage: true, Borrowed: true, Features: []string{"cam"}},
		&domain.LicenseRevoked{License: "lic_1", Reason: "fraud", TransferredTo: "globex", Transfer: "trf_1"},
	}
}

// goldenFiles is where the older examples and the examples are stored, in this order. From its second form on the files of
// a type have the form's number.
func goldenFiles() []string {
	var files []string
	forms := map[string]int{}
	for _, data := range slices.Concat(olderExamples(), examples()) {
		name := data.EventType()
		if forms[name]++; forms[name] > 1 {
			name += "." + strconv.Itoa(forms[name])
		}
		files = append(files, filepath.Join("testdata/events", name+".json"))
	}
	return files
}

// exampleEvent is data as it would stand first in its tenant's slice.
func exampleEvent(data domain.Event) Event {
	e := Event{
		ID: "01935e2f-7c00-7000-8000-0000000000aa", Type: data.EventType(), Subject: data.EventSubject(),
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), Actor: "operator", Data: data,
	}
	if e.Type == typeEpochStarted {
		return e
	}
	prev := Hash{1, 2, 3, 0xfe, 0xff}
	e.Tenant, e.Version, e.Prev = "acme", 12, &prev
	e.Command, e.Traceparent = "01935e2f-7c00-7000-8000-0000000000bb", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	return e
}

func encode(t testing.TB, e Event) []byte {
	t.Helper()
	encoded, err := appendEvent(nil, exampleSource, e)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func commitOf(events ...[]byte) Commit {
	return Commit{Body: slices.Concat([]byte("["), bytes.Join(events, []byte(",")), []byte("]"))}
}

// What was stored once must be read the same for ever, and what is written must not change unnoticed.
func TestGoldenEvents(t *testing.T) {
	t.Parallel()
	for i, data := range slices.Concat(olderExamples(), examples()) {
		e := exampleEvent(data)
		file := goldenFiles()[i]
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			stored, err := os.ReadFile(file)
			if os.IsNotExist(err) && *update {
				stored = append(encode(t, e), '\n')
				err = os.WriteFile(file, stored, 0o600)
			}
			if err != nil {
				t.Fatalf("%v; a new type gets its file with -update", err)
			}
			stored = bytes.TrimSuffix(stored, []byte("\n"))
			decoded, err := commitOf(stored).Decode()
			if err != nil {
				t.Fatal(err)
			}
			e.Raw = stored
			if got := decoded[0].Events[0]; !reflect.DeepEqual(got, e) {
				t.Errorf("decoded\n%+v %+v\nwant\n%+v %+v", got, got.Data, e, e.Data)
			}
			if got := encode(t, e); !bytes.Equal(got, stored) {
				t.Errorf("encoded\n%s\nwant\n%s", got, stored)
			}
		})
	}
}

func TestEveryEventTypeHasAGoldenFile(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, source := range []string{"../domain/*.go", "*.go"} {
		maps.Copy(known, eventTypesIn(t, source))
	}
	if len(known) < 15 {
		t.Fatalf("found only %d event types in the sources", len(known))
	}
	for eventType := range known {
		if data := newEvent(eventType); data == nil || data.EventType() != eventType {
			t.Errorf("%s is declared, but decoded into %T", eventType, data)
		}
		if _, err := os.Stat(filepath.Join("testdata/events", eventType+".json")); err != nil {
			t.Errorf("%s has no golden file: %v", eventType, err)
		}
		if !slices.ContainsFunc(examples(), func(e domain.Event) bool { return e.EventType() == eventType }) {
			t.Errorf("%s has no example", eventType)
		}
	}
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(files) != len(known)+len(olderExamples()) {
		t.Errorf("%d golden files for %d event types and %d older forms, %v", len(files), len(known), len(olderExamples()), err)
	}
}

// eventTypesIn returns the string literals in the sources that are event types.
func eventTypesIn(t *testing.T, pattern string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, _ := strconv.Unquote(literal.Value); strings.HasPrefix(text, "ai.coditect.") {
					found[text] = true
				}
			}
			return true
		})
	}
	return found
}

// Every field of an example is set: so a field that is renamed, or new, shows in its golden file.
func TestExamplesSetEveryField(t *testing.T) {
	t.Parallel()
	for _, data := range examples() {
		v := reflect.ValueOf(data).Elem()
		for _, f := range reflect.VisibleFields(v.Type()) {
			if v.FieldByIndex(f.Index).IsZero() {
				t.Errorf("the example of %s leaves %s empty", data.EventType(), f.Name)
			}
		}
	}
}

// What an event does not have is left out, not stored as zero.
func TestEmptyFieldsAreNotStored(t *testing.T) {
	t.Parallel()
	for want, data := range map[string]domain.Event{
		`"data":{}}`:                  &domain.TenantSuspended{},
		`"data":{"license":"lic_1"}}`: &domain.LicenseRevoked{License: "lic_1"},
		`"data":{"license":"lic_1","user":"u","machine":"m","reason":"license_revoked","seats":5,"in_use":0}}`: &domain.SeatDenied{
			License: "lic_1", Holder: domain.Holder{User: "u", Machine: "m"}, Reason: domain.LicenseIsGone, Seats: 5,
		},
	} {
		if got := encode(t, exampleEvent(data)); !bytes.HasSuffix(got, []byte(want)) {
			t.Errorf("stored as\n%s\nwant at its end\n%s", got, want)
		}
	}
	epoch := encode(t, exampleEvent(&WriterEpochStarted{}))
	for _, name := range []string{"subject", "tenant", "version", "prev", "command", "traceparent"} {
		if bytes.Contains(epoch, []byte(`"`+name+`"`)) {
			t.Errorf("an event of the system has %s: %s", name, epoch)
		}
	}
}

func TestBatchIsReadByTheOfficialSDK(t *testing.T) {
	t.Parallel()
	const version = 1<<31 + 12
	acquired := exampleEvent(&domain.SeatAcquired{License: "lic_1", Lease: "lse_1", ExpiresAt: time.Unix(1, 0).UTC()})
	acquired.Version = version
	released := exampleEvent(&domain.SeatReleased{License: "lic_1", Lease: "lse_1"})
	released.Version, released.Prev = version+1, nil
	commit := commitOf(encode(t, exampleEvent(&WriterEpochStarted{Epoch: 1, Writer: "w"})), encode(t, acquired), encode(t, released))
	if _, err := commit.Decode(); err != nil {
		t.Fatal(err)
	}
	var batch []event.Event
	if err := stdjson.Unmarshal(commit.Body, &batch); err != nil {
		t.Fatal(err)
	}
	if len(batch) != 3 {
		t.Fatalf("%d events, want 3", len(batch))
	}
	for _, e := range batch {
		if err := e.Validate(); err != nil {
			t.Errorf("%s: %v", e.Type(), err)
		}
	}
	first := batch[1]
	want := map[string]any{
		"tenant": "acme", "version": strconv.Itoa(version), "prev": acquired.Prev.String(),
		"actor": "operator", "command": acquired.Command, "traceparent": acquired.Traceparent,
	}
	if got := first.Extensions(); !reflect.DeepEqual(got, want) {
		t.Errorf("extensions %v, want %v", got, want)
	}
	if _, ok := batch[2].Extensions()["prev"]; ok {
		t.Error("the second event of a slice has prev")
	}
	if first.ID() != acquired.ID || first.Source() != exampleSource || first.Subject() != "lse_1" || !first.Time().Equal(acquired.Time) {
		t.Errorf("attributes %v", first)
	}
	var data domain.SeatAcquired
	if err := first.DataAs(&data); err != nil || !reflect.DeepEqual(&data, acquired.Data) {
		t.Errorf("data %+v, %v; want %+v", data, err, acquired.Data)
	}
}

func TestDecodeKeepsSlicesTogether(t *testing.T) {
	t.Parallel()
	of := func(tenant domain.TenantID, version uint64, first bool) Event {
		e := exampleEvent(&domain.TenantSuspended{})
		e.Tenant, e.Version = tenant, version
		if !first {
			e.Prev = nil
		}
		return e
	}
	a1, a2, b := encode(t, of("a", 1, true)), encode(t, of("a", 2, false)), encode(t, of("b", 9, true))
	epoch := encode(t, exampleEvent(&WriterEpochStarted{Epoch: 1}))
	// White space is not ours, but harmless: what is hashed is the bytes as stored.
	stored := slices.Concat(a1, []byte(" ,\n"), a2)
	commit := commitOf(epoch, stored, b, epoch)
	decoded, err := commit.Decode()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range decoded {
		got = append(got, string(s.Tenant)+":"+strconv.Itoa(len(s.Events)))
	}
	if want := []string{":1", "a:2", "b:1", ":1"}; !slices.Equal(got, want) {
		t.Fatalf("slices %v, want %v", got, want)
	}
	if !bytes.Equal(decoded[1].Stored, stored) || decoded[1].Head() != decoded[1].Events[0].Prev.Next(stored) {
		t.Errorf("slice of a is stored as\n%s\nwant\n%s", decoded[1].Stored, stored)
	}
	if !bytes.Equal(decoded[1].Events[1].Raw, a2) {
		t.Errorf("second event is stored as\n%s\nwant\n%s", decoded[1].Events[1].Raw, a2)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	suspended := exampleEvent(&domain.TenantSuspended{})
	with := func(change func(*Event)) []byte {
		e := suspended
		change(&e)
		return encode(t, e)
	}
	epoch := encode(t, exampleEvent(&WriterEpochStarted{Epoch: 1}))
	first := encode(t, suspended)
	next := with(func(e *Event) { e.Prev, e.Version = nil, 13 })
	other := with(func(e *Event) { e.Tenant = "other" })
	edit := func(old, replacement string) []byte {
		if !bytes.Contains(first, []byte(old)) {
			t.Fatalf("%s is not in %s", old, first)
		}
		return bytes.Replace(first, []byte(old), []byte(replacement), 1)
	}
	body := func(text string) Commit { return Commit{Body: []byte(text)} }
	for name, c := range map[string]struct {
		commit Commit
		want   string // part of the message
	}{
		"nothing":                        {body(""), "not a JSON array"},
		"an object":                      {body("{}"), "not a JSON array"},
		"an event without a batch":       {Commit{Body: first}, "not a JSON array"},
		"no events":                      {body("[]"), "without events"},
		"a batch that does not end":      {Commit{Body: commitOf(first).Body[:len(first)+1]}, ""},
		"a batch cut in an event":        {Commit{Body: commitOf(first).Body[:len(first)/2]}, "event 0"},
		"bytes after the end":            {Commit{Body: append(commitOf(first).Body, "[]"...)}, "goes on after its end"},
		"something that is no event":     {body("[7]"), "event 0"},
		"null":                           {body("[null]"), "event 0"},
		"an unknown type":                {commitOf(first, edit("suspended.v1", "suspended.v2")), "event 1: unknown event type \"ai.coditect.tenant.suspended.v2\"; a newer program wrote it: upgrade this one"},
		"another specversion":            {commitOf(edit(`"1.0"`, `"0.3"`)), `specversion "0.3"`},
		"a name twice":                   {commitOf(edit(`"id":`, `"id":"x","id":`)), "duplicate"},
		"no UTF-8":                       {commitOf(edit("operator", "\xff")), "UTF-8"},
		"a version that is a number":     {commitOf(edit(`"version":"12"`, `"version":12`)), "version"},
		"a negative version":             {commitOf(edit(`"version":"12"`, `"version":"-12"`)), "version"},
		"a version with a zero in front": {commitOf(edit(`"version":"12"`, `"version":"012"`)), "version 012"},
		"an actor that is a number":      {commitOf(edit(`"actor":"operator"`, `"actor":1234567890`)), "actor"},
		"data before its type":           {commitOf(edit(`"type":`, `"data":{},"type":`)), "unknown event type"},
		"a time that is none":            {commitOf(edit("2026-01-02T", "2026-13-02T")), "time"},
		"a hash too short":               {commitOf(edit(suspended.Prev.String(), "AAAA")), "hash"},
		"data of another shape":          {commitOf(edit(`"data":{`, `"data":{"reason":7,"x":{`+`}},"y":{`)), "data of"},
		"no data":                        {commitOf(edit(`,"data":{}`, ``)), "data of"},
		"slices not together":            {commitOf(first, other, next), "do not stand together"},
		"a tenant's slice twice":         {commitOf(first, other, with(func(e *Event) { e.Version = 13 })), "do not stand together"},
		"a slice in two":                 {commitOf(first, with(func(e *Event) { e.Version = 13 })), "do not stand together"},
		"a slice without prev":           {commitOf(next), "has prev"},
		"a second slice without prev":    {commitOf(first, with(func(e *Event) { e.Tenant, e.Prev = "other", nil })), "has prev"},
		"a version left out":             {commitOf(first, with(func(e *Event) { e.Prev, e.Version = nil, 14 })), "version 14 of acme follows 12"},
		"a version twice":                {commitOf(first, with(func(e *Event) { e.Prev = nil })), "version 12 of acme follows 12"},
		"no version":                     {commitOf(with(func(e *Event) { e.Version = 0 })), "version 0 of tenant \"acme\""},
		"a tenant's event without one":   {commitOf(with(func(e *Event) { e.Tenant, e.Version, e.Prev = "", 0, nil })), `with tenant ""`},
		"a system event with a tenant":   {commitOf(bytes.Replace(epoch, []byte(`"actor"`), []byte(`"tenant":"acme","version":"1","actor"`), 1)), `with tenant "acme"`},
		"a system event with a version":  {commitOf(bytes.Replace(epoch, []byte(`"actor"`), []byte(`"version":"1","actor"`), 1)), `version 1 of tenant ""`},
		"a system event with prev":       {commitOf(bytes.Replace(epoch, []byte(`"actor"`), []byte(`"prev":"`+Hash{}.String()+`","actor"`), 1)), "has prev"},
		"a system event inside a slice":  {commitOf(first, epoch, next), "do not stand together"},
		"a comma too many":               {Commit{Body: slices.Concat([]byte("["), first, []byte(",]"))}, ""},
		"no comma":                       {Commit{Body: slices.Concat([]byte("["), first, other, []byte("]"))}, ""},
		"another tenant's event behind":  {commitOf(first, with(func(e *Event) { e.Tenant, e.Version, e.Prev = "other", 13, nil })), "has prev"},
		"a slice that begins in the end": {commitOf(other, next), "has prev"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if decoded, err := c.commit.Decode(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("decode = %v, %v; want an error that says %q", decoded, err, c.want)
			}
		})
	}
}

// All events of a commit happen at one time, in UTC and whole milliseconds. Another time is none that a Writer wrote, and
// some could not even be written again.
func TestDecodeRefusesTimesThatAreNotWritten(t *testing.T) {
	t.Parallel()
	e := exampleEvent(&domain.TenantSuspended{})
	first := encode(t, e)
	for _, text := range []string{"2026-01-02T04:04:05.678+01:00", "2026-01-02T03:04:05.6781Z", "0000-01-01T00:00:00+01:00"} {
		c := commitOf(bytes.Replace(first, []byte("2026-01-02T03:04:05.678Z"), []byte(text), 1))
		if decoded, err := c.Decode(); err == nil {
			t.Errorf("%s is accepted as %s", text, decoded[0].Events[0].Time)
		}
	}
	e.Prev, e.Version, e.Time = nil, e.Version+1, e.Time.Add(time.Millisecond)
	if _, err := commitOf(first, encode(t, e)).Decode(); err == nil {
		t.Error("two times in one commit are accepted")
	}
}

func TestRecordAndCommitOf(t *testing.T) {
	t.Parallel()
	c := Commit{ID: "id", Epoch: 1<<63 + 1, Prev: Hash{0xff, 1}, Directory: 1<<64 - 1, Body: []byte("[]")}
	if got, err := CommitOf(c.Record()); err != nil || !reflect.DeepEqual(got, c) {
		t.Fatalf("commit came back as %+v, %v; want %+v", got, err, c)
	}
	for _, header := range []string{headerPrev, headerEpoch, headerDirectory} {
		for _, value := range []string{"", "x", "-1", "18446744073709551616"} {
			r := c.Record()
			r.Header[header] = value
			if _, err := CommitOf(r); err == nil {
				t.Errorf("%s %q is accepted", header, value)
			}
		}
	}
}

// Auditors compute this with other programs.
func TestHashIsSHA256OfTheHashBeforeAndTheBytes(t *testing.T) {
	t.Parallel()
	prev, body := Hash(bytes.Repeat([]byte{0xab}, 32)), []byte(`[{"id":"1"}]`)
	want := sha256.Sum256(slices.Concat(prev[:], body))
	if got := (Commit{Prev: prev, Body: body}).Hash(); got != want {
		t.Errorf("hash is %x, want %x", got, want)
	}
	slice := Slice{Events: []Event{{Prev: &prev}}, Stored: body}
	if got := slice.Head(); got != want {
		t.Errorf("head of a slice is %x, want %x", got, want)
	}
}

// A hash has one text, so that a text that was changed cannot pass for it.
func TestHashHasOneText(t *testing.T) {
	t.Parallel()
	text := Hash{}.String()
	for _, changed := range []string{text[:42] + "B", text[:42] + "C", text + "\n", text[:20] + "\r\n" + text[20:], text + "=", text[:42], text + "A"} {
		var h Hash
		if err := h.UnmarshalText([]byte(changed)); err == nil {
			t.Errorf("%q is read as %s", changed, h)
		}
	}
}

// FuzzDecode: no body makes Decode panic, and what it accepts is what this package writes: written again, it says the same.
func FuzzDecode(f *testing.F) {
	var all [][]byte
	for i, data := range examples() {
		e := exampleEvent(data)
		f.Add(commitOf(encode(f, e)).Body)
		if i > 0 {
			e.Version = uint64(i)
			if i > 1 {
				e.Prev = nil
			}
		}
		all = append(all, encode(f, e))
	}
	f.Add(commitOf(all...).Body)
	for _, text := range []string{"", "[]", "[[]]", "[{}]", "{}", "[null]", "[", "]", "[{}", `[{"data":null}]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		commit := Commit{Body: body}
		decoded, err := commit.Decode()
		if err != nil {
			return
		}
		if commit.Hash() != (Hash{}).Next(body) {
			t.Fatal("another hash")
		}
		var again [][]byte
		seen := map[domain.TenantID]bool{"": false}
		for _, s := range decoded {
			if seen[s.Tenant] || len(s.Events) == 0 || !bytes.Contains(body, s.Stored) {
				t.Fatalf("slice of %q: %+v", s.Tenant, s)
			}
			seen[s.Tenant] = s.Tenant != ""
			for i, e := range s.Events {
				if e.Tenant != s.Tenant || (e.Prev != nil) != (i == 0 && s.Tenant != "") || e.Version != s.Events[0].Version+uint64(i) {
					t.Fatalf("event %d of the slice of %q: %+v", i, s.Tenant, e)
				}
				if e.Type != e.Data.EventType() || !bytes.Contains(s.Stored, e.Raw) {
					t.Fatalf("event %+v", e)
				}
				encoded, err := appendEvent(nil, exampleSource, e)
				if err != nil {
					t.Fatalf("encode %+v: %v", e, err)
				}
				again = append(again, encoded)
			}
			if s.Tenant != "" {
				_ = s.Head()
			}
		}
		decodedAgain, err := commitOf(again...).Decode()
		if err != nil {
			t.Fatalf("written again as\n%s\n%v", commitOf(again...).Body, err)
		}
		if !reflect.DeepEqual(meaning(decodedAgain), meaning(decoded)) {
			t.Fatalf("written again as\n%s", commitOf(again...).Body)
		}
	})
}

// meaning is slices without the bytes that they were stored as.
func meaning(all []Slice) []Slice {
	var kept []Slice
	for _, s := range all {
		s.Stored, s.Events = nil, slices.Clone(s.Events)
		for i := range s.Events {
			s.Events[i].Raw = nil
		}
		kept = append(kept, s)
	}
	return kept
}

// cloudEvent is the envelope as the codec knows it.
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject,omitzero"`
	Time        time.Time       `json:"time"`
	Tenant      domain.TenantID `json:"tenant,omitzero"`
	Version     uint64          `json:"version,omitzero,string"`
	Prev        *Hash           `json:"prev,omitzero"`
	Actor       string          `json:"actor"`
	Command     string          `json:"command,omitzero"`
	Traceparent string          `json:"traceparent,omitzero"`
	Data        jsontext.Value  `json:"data"`
}

// The one pass writes what the codec would write of the envelope, whatever the texts.
func TestAppendEventIsTheCodecs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"`, `\`, "\n", "\x00", "</script>", "世", "\xff"}))
		prev := Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev"))
		e := Event{
			ID: text.Draw(t, "id"), Type: "ai.coditect.tenant.renamed.v1", Subject: text.Draw(t, "subject"),
			Time:   time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "time")).UTC(),
			Tenant: domain.TenantID(text.Draw(t, "tenant")), Version: rapid.Uint64().Draw(t, "version"), Prev: &prev,
			Actor: "a" + text.Draw(t, "actor"), Command: text.Draw(t, "command"), Traceparent: text.Draw(t, "traceparent"),
			Data: &domain.TenantRenamed{Name: "n", Was: "w"},
		}
		got, err := appendEvent([]byte("before"), "s", e)
		want, wantErr := json.Marshal(cloudEvent{
			SpecVersion: "1.0", ID: e.ID, Source: "s", Type: e.Type, Subject: e.Subject, Time: e.Time, Tenant: e.Tenant, Version: e.Version,
			Prev: e.Prev, Actor: e.Actor, Command: e.Command, Traceparent: e.Traceparent, Data: []byte(`{"name":"n","was":"w"}`),
		})
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%v, want %v", err, wantErr)
		}
		if err == nil && e.ID != "" && string(got) != "before"+string(want) {
			t.Fatalf("got  %s\nwant before%s", got, want)
		}
	})
}

// What was written is read again, whatever the texts, and whatever an event has in common with the one before it.
func TestDecodeIsTheReverseOfAppendEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"a", "b", "ab", `"`, `\`, `\\`, "\n", "\x00", "</script>", "世", "界"})
		prev := Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev"))
		at := time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "time")).UTC()
		tenant, version := domain.TenantID(text.Draw(t, "tenant")), rapid.Uint64Range(1, 1<<63).Draw(t, "version")
		var want []Event
		var bodies [][]byte
		for n := range uint64(rapid.IntRange(1, 4).Draw(t, "events")) {
			reason := text.Draw(t, "reason")
			e := Event{
				ID: text.Draw(t, "id"), Type: "ai.coditect.tenant.suspended.v1", Subject: text.Draw(t, "subject"), Time: at,
				Tenant: tenant, Version: version + n, Actor: text.Draw(t, "actor"), Command: text.Draw(t, "command"),
				Traceparent: text.Draw(t, "traceparent"), Data: &domain.TenantSuspended{Reason: reason},
			}
			if rapid.Bool().Draw(t, "another type") {
				e.Type, e.Data = "ai.coditect.tenant.reinstated.v1", &domain.TenantReinstated{Reason: reason}
			}
			if n == 0 {
				e.Prev = &prev
			}
			raw, err := appendEvent(nil, "s", e)
			if err != nil {
				t.Fatal(err)
			}
			e.Raw = raw
			want, bodies = append(want, e), append(bodies, raw)
		}
		c := commitOf(bodies...)
		got, err := c.Decode()
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0].Events, want) || !bytes.Equal(got[0].Stored, c.Body[1:len(c.Body)-1]) {
			t.Fatalf("%s is read as\n%+v, %v\nwant\n%+v", c.Body, got, err, want)
		}
	})
}

// Heartbeats are written by hand, and are what json.Marshal makes of them.
func TestHeartbeatsAreWrittenAsByMarshal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Custom(func(t *rapid.T) domain.LeaseID {
			return domain.LeaseID(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"`, "<&>", "\u2028", "", "lse_1"})).Draw(t, "id"))
		})
		beat := &domain.SeatHeartbeat{
			License: domain.LicenseID(rapid.String().Draw(t, "license")), Leases: rapid.SliceOfN(id, 0, 4).Draw(t, "leases"),
			ExpiresAt: time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "end")).UTC(),
		}
		want, err := json.Marshal(beat)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := appendData(nil, beat); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got  %s, %v\nwant %s", got, err, want)
		}
	})
}
