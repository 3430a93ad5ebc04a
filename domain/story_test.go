package domain_test

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// TestStories tells the stories of testdata/*.txt. A story is a paragraph that begins with what it shows:
//
//	# A full license refuses the next holder.
//	given  LicenseIssued seats=1 lease=10m
//	09:00  AcquireSeat alice  -> SeatAcquired l1 alice until 09:10
//	09:01  AcquireSeat bob    -> rejected no_seat_available, SeatDenied bob retry=9m
//	state  lic1 in_use=1
//
// given makes the tenant acme and a license, lic1 unless it is named, at 08:00. A line with a time is a command and what
// it gives: its refusal, its events, the refusals of single leases; "nothing" when there are none of them. Without
// "on lic2" a seat command is about lic1. "epoch" lets a new writer take over. state asks for a license, a lease, the
// tenant, the next deadline, who waits, who of those is called, or the keys of the tenant's people that are of use now.
//
// A holder is user@machine/process; machine and process may be left out. Leases are l1, l2, … in the order of their
// acquire; a word l1..l9 stands for all of them, and more than four events of a kind in a row print as their number. What
// is expected may leave words out, but not change their order.
func TestStories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	seen := map[string]bool{} // commands, events and codes
	for _, file := range files {
		for _, story := range readStories(t, file) {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+story.title, func(t *testing.T) {
				s := &stage{t: t, tenant: domain.NewTenant("acme"), seen: seen}
				for _, l := range story.lines {
					s.line = l
					s.tell()
				}
			})
		}
	}
	for _, word := range slices.Concat(declared(t, "EventType"), declared(t, "Decide"), declaredCodes(t)) {
		if !seen[word] {
			t.Errorf("no story shows %s", word)
		}
	}
}

type story struct {
	title string
	lines []line
}

type line struct{ place, text string }

func readStories(t *testing.T, file string) []story {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stories []story
	between := true
	scanner := bufio.NewScanner(f)
	for number := 1; scanner.Scan(); number++ {
		text := strings.TrimSpace(scanner.Text())
		comment, isComment := strings.CutPrefix(text, "#")
		switch {
		case text == "":
			between = true
			continue
		case isComment && between:
			stories = append(stories, story{title: strings.TrimSuffix(strings.TrimSpace(comment), ".")})
		case between:
			t.Fatalf("%s:%d: a story begins with what it shows: # …", file, number)
		case !isComment:
			text, _, _ = strings.Cut(text, " # ")
			last := &stories[len(stories)-1]
			last.lines = append(last.lines, line{fmt.Sprintf("%s:%d", file, number), text})
		}
		between = false
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return stories
}

// stage is where a story is played.
type stage struct {
	t        *testing.T
	line     line
	tenant   *domain.Tenant
	now      domain.Moment
	acquired int // leases so far
	seen     map[string]bool
}

func (s *stage) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("\n%s: %s\n%s", s.line.place, s.line.text, fmt.Sprintf(format, args...))
}

func (s *stage) tell() {
	s.t.Helper()
	said, want, hasWant := strings.Cut(s.line.text, "->")
	words := parseWords(strings.Fields(said))
	switch when := words.next(); {
	case when == "given":
		s.given(words)
	case when == "state":
		name := words.next()
		if got := s.state(name); !leavesOut("state "+strings.Join(words.all, " "), "state "+got) {
			s.fatalf("  got   %s %s", name, got)
		}
	case words.peek() == "epoch":
		s.now = domain.Moment{At: s.clock(when), Epoch: s.clock(when)}
	case !hasWant:
		s.fatalf("  a command needs -> and what it gives")
	default:
		s.now.At = s.clock(when)
		if got := strings.Join(s.do(words), ", "); !matches(want, got) {
			s.fatalf("  got   %s\n  want  %s", got, strings.TrimSpace(want))
		}
	}
}

func (s *stage) given(w *words) {
	if name := w.next(); name != "LicenseIssued" {
		s.fatalf("  given knows LicenseIssued only; use a command for %s", name)
	}
	at := s.clock("08:00")
	if !s.tenant.Exists() {
		s.tenant.Apply(at, &domain.TenantCreated{Tenant: "acme", Name: "Acme"})
	}
	c := s.issue(w)
	s.tenant.Apply(at, &domain.LicenseIssued{License: c.License, Product: c.Product, Seats: c.Seats, Policy: c.Policy, Key: c.Key})
}

func (s *stage) issue(w *words) domain.IssueLicense {
	id := domain.LicenseID(w.nextOr("lic1"))
	return domain.IssueLicense{
		License: id, Product: "cad", Seats: s.number(w.value("seats")), Policy: s.policy(w).Of(domain.Policy{Trial: w.value("trial") != ""}),
		Key: domain.LicenseKey{ID: domain.KeyID("key-" + id), Hash: []byte("hash")},
	}
}

// policy reads what is said of a policy: lease=10m per=machine overage=10 revive=1m per_user=2 reserve=cad:alice+bob:2;sim:carol:1
// borrow=3 borrow_max=2 low_water=1 features=cam+sim starts=09:00 expires=1d00:00 grace=1 shrink=evict_newest.
func (s *stage) policy(w *words) domain.PolicyChange {
	s.t.Helper()
	var c domain.PolicyChange
	seconds := func(text string) *int { return new(int(s.length(text).Seconds())) }
	number := func(text string) *int { return new(s.number(text)) }
	moment := func(text string) *time.Time {
		if text == "never" {
			return &time.Time{}
		}
		return new(s.clock(text))
	}
	for key, text := range w.values {
		switch key {
		case "lease":
			c.LeaseSeconds = seconds(text)
		case "beat":
			c.HeartbeatSeconds = seconds(text)
		case "per":
			c.SeatPer = new(domain.SeatPer(strings.TrimPrefix(text, "process")))
		case "overage":
			if _, err := strconv.Atoi(text); err == nil {
				c.Overage, c.OveragePercent = new(domain.OveragePercent), number(text)
			} else {
				c.Overage = new(domain.Overage(strings.TrimPrefix(text, "none")))
			}
		case "revive":
			c.ReviveSeconds = seconds(text)
		case "per_user":
			c.MaxPerUser = number(text)
		case "per_machine":
			c.MaxPerMachine = number(text)
		case "reserve":
			c.Reservations = new(s.reservations(text))
		case "borrow":
			c.BorrowDays = number(text)
		case "borrow_max":
			c.BorrowMax = number(text)
		case "low_water":
			c.BorrowLowWater = number(text)
		case "features":
			c.Features = new(strings.Split(text, "+"))
		case "starts":
			c.StartsAt = moment(text)
		case "expires":
			c.ExpiresAt = moment(text)
		case "grace":
			c.GraceDays = number(text)
		case "shrink":
			c.OnShrink = new(domain.OnShrink(strings.TrimPrefix(text, "drain")))
		case "seats", "trial", "suspended", "leases", "in_use", "fences":
		default:
			s.fatalf("  a policy has no %s", key)
		}
	}
	return c
}

// reservations reads name:users:seats, or name:users:seats:priority, and so on behind semicolons; "none" is none.
func (s *stage) reservations(text string) []domain.Reservation {
	s.t.Helper()
	all := []domain.Reservation{}
	if text == "none" {
		return all
	}
	for _, one := range strings.Split(text, ";") {
		parts := append(strings.Split(one, ":"), "0")
		r := domain.Reservation{Name: parts[0], Seats: s.number(parts[2]), Priority: s.number(parts[3])}
		for _, user := range strings.Split(parts[1], "+") {
			r.Users = append(r.Users, domain.Pseudonym(user))
		}
		all = append(all, r)
	}
	return all
}

// do plays a command, or an acquire of each of several holders, and returns what it gave.
func (s *stage) do(w *words) []string {
	s.t.Helper()
	name := w.next()
	s.seen[name] = true
	on := domain.LicenseID(w.on)
	license := func() domain.LicenseID { return domain.LicenseID(w.nextOr("lic1")) }
	switch name {
	case "CreateTenant":
		return s.execute(domain.CreateTenant{Tenant: "acme", Name: w.next()})
	case "RenameTenant":
		return s.execute(domain.RenameTenant{Name: w.next()})
	case "SuspendTenant":
		return s.execute(domain.SuspendTenant{Reason: w.value("reason")})
	case "ReinstateTenant":
		return s.execute(domain.ReinstateTenant{Reason: w.value("reason")})
	case "IssueLicense":
		return s.execute(s.issue(w))
	case "ChangeLicense":
		c := domain.ChangeLicense{License: license(), Policy: s.policy(w)}
		if seats := w.value("seats"); seats != "" {
			c.Seats = new(s.number(seats))
		}
		return s.execute(c)
	case "RenewLicense":
		c := domain.RenewLicense{License: license()}
		if until := w.value("expires"); until != "never" {
			c.ExpiresAt = s.clock(until)
		}
		return s.execute(c)
	case "ConvertTrial":
		return s.execute(domain.ConvertTrial{License: license()})
	case "RotateKey":
		return s.execute(domain.RotateKey{
			License: license(), Overlap: s.length(w.value("overlap")), Key: domain.LicenseKey{ID: domain.KeyID(w.value("key")), Hash: []byte("hash")},
		})
	case "EvictLease":
		return s.execute(domain.EvictLease{License: on, Lease: domain.LeaseID(w.next()), Reason: w.value("reason")})
	case "ReleaseHolder":
		return s.execute(domain.ReleaseHolder{
			User: domain.Pseudonym(w.value("user")), Machine: domain.Pseudonym(w.value("machine")), Max: s.number(w.value("max")),
		})
	case "SuspendLicense":
		return s.execute(domain.SuspendLicense{License: license(), Reason: w.value("reason")})
	case "ReinstateLicense":
		return s.execute(domain.ReinstateLicense{License: license(), Reason: w.value("reason")})
	case "RevokeLicense":
		return s.execute(domain.RevokeLicense{License: license(), Reason: w.value("reason")})
	case "AcquireSeat":
		var got []string
		for _, holder := range w.rest() {
			next := domain.LeaseID(fmt.Sprint("l", s.acquired+1))
			c := domain.AcquireSeat{License: on, Lease: next, Holder: parseHolder(holder)}
			if features := w.value("features"); features != "" {
				c.Features = strings.Split(features, "+")
			}
			if until := w.value("until"); until != "" {
				c.BorrowUntil = s.clock(until)
			}
			c.Queue = w.value("wait") != ""
			got = append(got, s.execute(c)...)
		}
		return fewer(got)
	case "LeaveQueue":
		return s.execute(domain.LeaveQueue{License: on, Holder: parseHolder(w.next()), Cause: domain.DequeueCause(w.value("cause"))})
	case "HeartbeatSeats":
		return s.execute(domain.HeartbeatSeats{License: on, Leases: leaseIDs(w.rest()), Fence: s.fence(w)})
	case "ReleaseSeats":
		return s.execute(domain.ReleaseSeats{License: on, Leases: leaseIDs(w.rest()), Fence: s.fence(w)})
	case "StartTransfer":
		c := domain.StartTransfer{License: license(), Transfer: "trf1", To: domain.TenantID(w.value("to")), As: "lic9", Key: domain.LicenseKey{ID: "key-9", Hash: []byte("hash")}}
		if c.Keep = w.value("leases") == "keep"; c.Keep {
			c.Overlap = s.length(w.value("overlap"))
		}
		return s.execute(c)
	case "CancelTransfer":
		return s.execute(domain.CancelTransfer{License: license()})
	case "AdvanceTransfers":
		return s.execute(domain.AdvanceTransfers{})
	case "CompleteTransfer":
		return s.execute(domain.CompleteTransfer{License: license(), Transfer: domain.TransferID(w.value("transfer"))})
	case "ReceiveLicense":
		c := domain.ReceiveLicense{IssueLicense: s.issue(w), Transfer: "trf1", Suspended: w.value("suspended") != ""}
		if w.value("fences") != "" {
			c.Fences = uint64(s.number(w.value("fences")))
		}
		if w.value("leases") != "" {
			c.Leases, c.InUse = s.number(w.value("leases")), s.number(w.value("in_use"))
		}
		return s.execute(c)
	case "LeavingLeases":
		return s.execute(domain.LeavingLeases{License: license(), From: s.number(w.value("from")), Max: s.number(w.value("max"))})
	case "ReceiveLeases": // lease=holder/fence, all acquired and until at the same times
		c := domain.ReceiveLeases{License: license(), Left: s.number(w.value("left"))}
		for _, word := range w.rest() {
			parts := strings.Split(word, ":")
			c.Leases = append(c.Leases, domain.Lease{
				ID: domain.LeaseID(parts[0]), Holder: parseHolder(parts[1]), Fence: uint64(s.number(parts[2])),
				AcquiredAt: s.clock(w.value("acquired")), ExpiresAt: s.clock(w.value("until")), Borrowed: w.value("borrowed") != "",
			})
		}
		return s.execute(c)
	case "ForgetPerson":
		return s.execute(domain.ForgetPerson{Pseudonym: domain.Pseudonym(w.nextOr("")), Kind: "user", Reason: w.value("reason")})
	case "ExpireSeats":
		return s.execute(domain.ExpireSeats{Max: s.number(w.value("max"))})
	}
	got, ok := s.people(name, w)
	if !ok {
		s.fatalf("  unknown command %s", name)
	}
	return got
}

func (s *stage) execute(c domain.Command) []string {
	s.t.Helper()
	events, err := c.Decide(s.tenant, s.now)
	var got []string
	var refused *domain.Rejection
	if err != nil {
		if !errors.As(err, &refused) {
			s.fatalf("  got an error that is no rejection: %v", err)
		}
		s.seen[string(refused.Code)] = true
		got = append(got, "rejected "+string(refused.Code)+free(refused.Code, refused.Seats, refused.InUse, refused.RetryAfterSeconds)+placeText(refused))
	}
	for _, e := range events {
		s.tenant.Apply(s.now.At, e)
		got = append(got, eventText(e))
		s.seen[e.EventType()] = true
		if _, ok := e.(*domain.SeatAcquired); ok {
			s.acquired++
		}
	}
	if refused == nil {
		answer := c.Answer(s.tenant, events)
		got = append(got, s.refusals(answer)...)
		s.checkHeld(c, answer, events)
	}
	if len(got) == 0 {
		return []string{"nothing"}
	}
	return fewer(got)
}

func (s *stage) refusals(answer domain.Answer) []string {
	var got []string
	for _, l := range answer.Leaving {
		got = append(got, fmt.Sprintf("leaving %s %s until %s fence=%d", l.ID, holderText(l.Holder), clockText(l.ExpiresAt), l.Fence))
	}
	for _, outcome := range answer.Leases {
		if r := outcome.Rejected; r != nil {
			s.seen[string(r.Code)] = true
			got = append(got, fmt.Sprint(outcome.ID, " ", r.Code))
		}
	}
	return got
}

// checkHeld checks that whoever got a seat is told of a lease that is active and its own.
func (s *stage) checkHeld(c domain.Command, answer domain.Answer, events []domain.Event) {
	s.t.Helper()
	acquire, ok := c.(domain.AcquireSeat)
	if !ok {
		return
	}
	if answer.Queued {
		if answer.Lease != nil || !slices.Contains(s.tenant.Waiters(), domain.Waiter{License: acquire.License, Holder: acquire.Holder}) {
			s.fatalf("  answered that it waits: %+v", answer)
		}
		return
	}
	l := answer.Lease
	_, created := append(slices.Clone(events), nil)[max(0, len(events)-1)].(*domain.SeatAcquired)
	if l.State != domain.LeaseStateActive || l.Holder != acquire.Holder || answer.Created != created || created != (l.ID == acquire.Lease) {
		s.fatalf("  answered created=%v %+v", answer.Created, *l)
	}
}

func (s *stage) state(name string) string {
	s.t.Helper()
	if name == "tenant" {
		return fmt.Sprintf("%s %s version=%d", s.tenant.Name, s.tenant.Status, s.tenant.Version)
	}
	if name == "keys" {
		return s.keysText()
	}
	if name == "queue" || name == "called" {
		waiters := s.tenant.Waiters()
		if name == "called" {
			waiters = s.tenant.Called(s.now)
		}
		text := ""
		for _, w := range waiters {
			text += " " + holderText(w.Holder)
		}
		return cmp.Or(strings.TrimSpace(text), "nobody")
	}
	if name == "due" {
		if next, ok := s.tenant.NextDue(); ok {
			return clockText(next)
		}
		return "never"
	}
	if l := s.tenant.License(domain.LicenseID(name)); l != nil {
		return fmt.Sprintf("%s seats=%d in_use=%d borrowed=%d key=%s%s", l.Status, l.Seats, l.InUse, l.Borrowed, l.Key.ID, optional(" old_key=", string(l.OldKey.ID))) + policyText(l.Policy)
	}
	text := "unknown"
	s.tenant.Licenses(func(l *domain.License) {
		if lease, ok := l.Lease(domain.LeaseID(name)); ok {
			text = fmt.Sprintf("%s %s until %s fence=%d", lease.State, holderText(lease.Holder), clockText(lease.ExpiresAt), lease.Fence)
			if lease.Overage {
				text += " overage"
			}
			if lease.Borrowed {
				text += " borrowed"
			}
			if !lease.EndedAt.IsZero() {
				text += " ended=" + clockText(lease.EndedAt)
			}
		}
	})
	return text
}

func (s *stage) fence(w *words) uint64 {
	if text := w.value("fence"); text != "" {
		return uint64(s.number(text))
	}
	return 0
}

func (s *stage) number(text string) int {
	s.t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		s.fatalf("  %v", err)
	}
	return n
}

func (s *stage) length(text string) time.Duration {
	s.t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		s.fatalf("  %v", err)
	}
	return d
}

var day = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func (s *stage) clock(text string) time.Time {
	s.t.Helper()
	days := 0
	clock := text
	if n, rest, ok := strings.Cut(text, "d"); ok { // 1d09:00 is the next day
		days, clock = s.number(n), rest
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if at, err := time.Parse(layout, clock); err == nil {
			return day.AddDate(0, 0, days).Add(at.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)))
		}
	}
	s.fatalf("  %q is neither a time of day nor given nor state", text)
	return time.Time{}
}

func clockText(at time.Time) string {
	if days := int(at.Sub(day).Hours() / 24); days > 0 {
		return fmt.Sprintf("%dd%s", days, clockText(at.AddDate(0, 0, -days)))
	}
	if at.Truncate(time.Minute).Equal(at) {
		return at.Format("15:04")
	}
	return at.Format("15:04:05.999")
}

func eventText(event domain.Event) string {
	switch e := event.(type) {
	case *domain.TenantCreated:
		return "TenantCreated " + e.Name
	case *domain.TenantRenamed:
		return "TenantRenamed " + e.Name + " was=" + e.Was
	case *domain.TenantSuspended:
		return "TenantSuspended" + optional(" reason=", e.Reason)
	case *domain.TenantReinstated:
		return "TenantReinstated" + optional(" reason=", e.Reason)
	case *domain.LicenseIssued:
		return fmt.Sprintf("LicenseIssued %s %s seats=%d%s key=%s", e.License, e.Product, e.Seats, policyText(e.Policy), e.Key.ID) + optional(" transfer=", string(e.Transfer)) + arrivalText(e)
	case *domain.PolicyChanged:
		return fmt.Sprintf("PolicyChanged %s%s was%s", e.License, policyText(e.Policy), policyText(e.Was))
	case *domain.LicenseRenewed:
		return fmt.Sprintf("LicenseRenewed %s expires=%s was=%s", e.License, endText(e.ExpiresAt), endText(e.Was))
	case *domain.TrialConverted:
		return fmt.Sprintf("TrialConverted %s", e.License)
	case *domain.LicenseKeyRotated:
		return fmt.Sprintf("LicenseKeyRotated %s key=%s old_key=%s until %s", e.License, e.Key.ID, e.OldKey, clockText(e.OldUntil))
	case *domain.LicenseResized:
		return fmt.Sprintf("LicenseResized %s seats=%d was=%d", e.License, e.Seats, e.Was)
	case *domain.LicenseSuspended:
		return fmt.Sprintf("LicenseSuspended %s%s", e.License, optional(" reason=", e.Reason))
	case *domain.LicenseReinstated:
		return fmt.Sprintf("LicenseReinstated %s%s", e.License, optional(" reason=", e.Reason))
	case *domain.LicenseRevoked:
		text := fmt.Sprintf("LicenseRevoked %s%s%s", e.License, optional(" reason=", e.Reason), optional(" transferred_to=", string(e.TransferredTo)))
		if e.Kept > 0 {
			text += fmt.Sprintf(" kept=%d old_key_until=%s", e.Kept, clockText(e.OldKeyUntil))
		}
		return text
	case *domain.SeatAcquired:
		text := fmt.Sprintf("SeatAcquired %s %s until %s", e.Lease, holderText(e.Holder), clockText(e.ExpiresAt))
		if e.Overage {
			text += " overage"
		}
		if e.Borrowed {
			text += " borrowed"
		}
		if e.Fence > 0 {
			text += fmt.Sprint(" fence=", e.Fence)
		}
		if e.Arrived() {
			text += " acquired=" + clockText(e.AcquiredAt)
		}
		return text + optional(" features=", strings.Join(e.Features, "+")) + " on " + string(e.License)
	case *domain.SeatBorrowed:
		return fmt.Sprintf("SeatBorrowed %s until %s on %s", e.Lease, clockText(e.ExpiresAt), e.License)
	case *domain.SeatHeartbeat:
		return fmt.Sprintf("SeatHeartbeat %s until %s on %s", leasesText(e.Leases), clockText(e.ExpiresAt), e.License)
	case *domain.SeatRevived:
		return fmt.Sprintf("SeatRevived %s until %s on %s", leasesText(e.Leases), clockText(e.ExpiresAt), e.License)
	case *domain.SeatEvicted:
		return fmt.Sprintf("SeatEvicted %s by %s%s on %s", leasesText(e.Leases), e.Cause, optional(" reason=", e.Reason), e.License)
	case *domain.SeatReleased:
		return fmt.Sprintf("SeatReleased %s on %s", e.Lease, e.License)
	case *domain.LicenseTransferStarted:
		return fmt.Sprintf("LicenseTransferStarted %s to=%s as=%s", e.License, e.To, e.As)
	case *domain.LicenseTransferCancelled:
		return fmt.Sprintf("LicenseTransferCancelled %s", e.License)
	case *domain.LicenseTransferCompleted:
		return fmt.Sprintf("LicenseTransferCompleted %s", e.License)
	case *domain.PersonForgotten:
		return fmt.Sprintf("PersonForgotten %s %s%s", e.Kind, e.Pseudonym, optional(" reason=", e.Reason))
	case *domain.SeatExpired:
		return fmt.Sprintf("SeatExpired %s on %s", e.Lease, e.License)
	case *domain.SeatQueued:
		text := fmt.Sprintf("SeatQueued %s place=%d", holderText(e.Holder), e.Position)
		if e.Priority > 0 {
			text += fmt.Sprint(" priority=", e.Priority)
		}
		return text + " on " + string(e.License)
	case *domain.SeatDequeued:
		return fmt.Sprintf("SeatDequeued %s %s%s on %s", holderText(e.Holder), e.Cause, optional(" ", string(e.Reason)), e.License)
	case *domain.SeatDenied:
		text := fmt.Sprintf("SeatDenied %s %s seats=%d in_use=%d%s", holderText(e.Holder), e.Reason, e.Seats, e.InUse, optional(" retry=", lengthText(e.RetryAfterSeconds)))
		if e.Reserved > 0 {
			text += fmt.Sprint(" reserved=", e.Reserved)
		}
		if e.Waiting > 0 {
			text += fmt.Sprint(" waiting=", e.Waiting)
		}
		text += optional(" estimate=", lengthText(e.EstimateSeconds))
		if e.Count > 0 {
			text += fmt.Sprint(" count=", e.Count)
		}
		if e.Limit > 0 {
			text += fmt.Sprint(" limit=", e.Limit)
		}
		if !e.ValidAt.IsZero() {
			text += " valid=" + clockText(e.ValidAt)
		}
		return text + optional(" feature=", e.Feature) + " on " + string(e.License)
	}
	if text, ok := peopleText(event); ok {
		return text
	}
	return fmt.Sprintf("%T", event)
}

func leasesText(ids []domain.LeaseID) string {
	var texts []string
	for _, id := range ids {
		texts = append(texts, string(id))
	}
	return strings.Join(texts, "+")
}

// policyText writes what is not the default, with a space before each.
func policyText(p domain.Policy) string {
	text := " lease=" + lengthText(p.LeaseSeconds)
	number := func(name string, n int) {
		if n != 0 {
			text += fmt.Sprintf(" %s=%d", name, n)
		}
	}
	text += optional(" beat=", lengthText(p.HeartbeatSeconds)) + optional(" per=", string(p.SeatPer))
	if p.Overage == domain.OveragePercent {
		number("overage", p.OveragePercent)
	} else {
		text += optional(" overage=", string(p.Overage))
	}
	text += optional(" revive=", lengthText(p.ReviveSeconds))
	number("per_user", p.MaxPerUser)
	number("per_machine", p.MaxPerMachine)
	var reservations []string
	for _, r := range p.Reservations {
		var users []string
		for _, user := range r.Users {
			users = append(users, string(user))
		}
		text := fmt.Sprintf("%s:%s:%d", r.Name, strings.Join(users, "+"), r.Seats)
		if r.Priority != 0 {
			text += fmt.Sprint(":", r.Priority)
		}
		reservations = append(reservations, text)
	}
	text += optional(" reserve=", strings.Join(reservations, ";"))
	number("borrow", p.BorrowDays)
	number("borrow_max", p.BorrowMax)
	number("low_water", p.BorrowLowWater)
	text += optional(" features=", strings.Join(p.Features, "+"))
	if !p.StartsAt.IsZero() {
		text += " starts=" + clockText(p.StartsAt)
	}
	if !p.ExpiresAt.IsZero() {
		text += " expires=" + clockText(p.ExpiresAt)
	}
	number("grace", p.GraceDays)
	text += optional(" shrink=", string(p.OnShrink))
	if p.Trial {
		text += " trial"
	}
	return text
}

func endText(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return clockText(at)
}

// free says how full a license is, of no_seat_available.
func free(code domain.Code, seats, inUse, retry int) string {
	if code != domain.NoSeatAvailable {
		return ""
	}
	return fmt.Sprintf(" seats=%d in_use=%d retry=%s", seats, inUse, lengthText(retry))
}

// placeText is what a refusal tells about the queue.
func placeText(r *domain.Rejection) string {
	if r.Waiting == 0 && r.EstimateSeconds == 0 {
		return ""
	}
	return fmt.Sprintf(" place=%d/%d", r.Position, r.Waiting) + optional(" estimate=", lengthText(r.EstimateSeconds))
}

func optional(label, text string) string {
	if text == "" {
		return ""
	}
	return label + text
}

// lengthText writes 10m, not 10m0s.
func lengthText(seconds int) string {
	switch {
	case seconds == 0:
		return ""
	case seconds%60 == 0:
		return fmt.Sprint(seconds/60, "m")
	}
	return (time.Duration(seconds) * time.Second).String()
}

func arrivalText(e *domain.LicenseIssued) string {
	if e.Fences == 0 {
		return ""
	}
	return fmt.Sprintf(" fences=%d leases=%d in_use=%d", e.Fences, e.Leases, e.InUse)
}

func parseHolder(text string) domain.Holder {
	rest, process, _ := strings.Cut(text, "/")
	user, machine, ok := strings.Cut(rest, "@")
	if !ok {
		machine = "desk"
	}
	return domain.Holder{User: domain.Pseudonym(user), Machine: domain.Pseudonym(machine), Process: domain.Pseudonym(process)}
}

func holderText(h domain.Holder) string {
	text := string(h.User)
	if h.Machine != "desk" {
		text += "@" + string(h.Machine)
	}
	return text + optional("/", string(h.Process))
}

func leaseIDs(words []string) []domain.LeaseID {
	var ids []domain.LeaseID
	for _, word := range words {
		ids = append(ids, domain.LeaseID(word))
	}
	return ids
}

// fewer writes more than four events of a kind in a row as "9 SeatAcquired".
func fewer(texts []string) []string {
	kind := func(text string) string { return strings.Fields(text)[0] }
	var kept []string
	for len(texts) > 0 {
		n := 1
		for n < len(texts) && kind(texts[n]) == kind(texts[0]) {
			n++
		}
		if n > 4 {
			kept = append(kept, fmt.Sprint(n, " ", kind(texts[0])))
		} else {
			kept = append(kept, texts[:n]...)
		}
		texts = texts[n:]
	}
	return kept
}

// matches compares what is expected with what was given, part by part.
func matches(want, got string) bool {
	wants, gots := strings.Split(want, ","), strings.Split(got, ",")
	if len(wants) != len(gots) {
		return false
	}
	for i := range wants {
		if !leavesOut(wants[i], gots[i]) {
			return false
		}
	}
	return true
}

// leavesOut reports whether want is full with some words, but not the first, left out.
func leavesOut(want, full string) bool {
	words := strings.Fields(want)
	for i, word := range strings.Fields(full) {
		if len(words) > 0 && words[0] == word {
			words = words[1:]
		} else if i == 0 {
			return false
		}
	}
	return len(words) == 0
}

// words are those of a command: in order, key=value, and "on lic2".
type words struct {
	all    []string
	values map[string]string
	on     string
}

func parseWords(fields []string) *words {
	w := &words{values: map[string]string{}, on: "lic1"}
	isState := len(fields) > 0 && fields[0] == "state"
	for i := 0; i < len(fields); i++ {
		key, value, isValue := strings.Cut(fields[i], "=")
		from, to, isRange := strings.Cut(fields[i], "..")
		switch {
		case isState:
			w.all = append(w.all, fields[i])
		case isValue:
			w.values[key] = value
		case isRange:
			w.all = append(w.all, numbered(from, to)...)
		case fields[i] == "on" && i+1 < len(fields):
			i++
			w.on = fields[i]
		default:
			w.all = append(w.all, fields[i])
		}
	}
	return w
}

// numbered returns l3, l4, l5 for l3 and l5.
func numbered(from, to string) []string {
	name := strings.TrimRight(from, "0123456789")
	first, _ := strconv.Atoi(from[len(name):])
	last, _ := strconv.Atoi(strings.TrimPrefix(to, name))
	var all []string
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprint(name, i))
	}
	return all
}

func (w *words) peek() string            { return append(w.all, "")[0] }
func (w *words) value(key string) string { return w.values[key] }
func (w *words) next() string            { return w.nextOr("") }
func (w *words) nextOr(def string) string {
	if len(w.all) == 0 {
		return def
	}
	word := w.all[0]
	w.all = w.all[1:]
	return word
}

func (w *words) rest() []string {
	rest := w.all
	w.all = nil
	return rest
}
