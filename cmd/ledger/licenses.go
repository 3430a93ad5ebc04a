package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coditect-ai/license-ledger/api"
)

type licenseCommands struct {
	Issue     licenseIssue     `cmd:"" help:"Make a license; prints its key, this once."`
	List      licenseList      `cmd:"" help:"A tenant's licenses, with their seats in use."`
	Show      licenseShow      `cmd:"" help:"One license."`
	History   licenseHistory   `cmd:"" help:"Every version of it: what changed, who changed it, when and why."`
	Queue     licenseQueue     `cmd:"" help:"Who waits for a seat of it, and how long that may take."`
	Resize    licenseResize    `cmd:"" help:"Change the number of seats."`
	Change    licenseChange    `cmd:"" help:"Change rules of its policy, and seats."`
	Suspend   licenseSuspend   `cmd:"" help:"No seats and no renewals until it is reinstated; running leases run out."`
	Reinstate licenseReinstate `cmd:"" help:"End a suspension."`
	Renew     licenseRenew     `cmd:"" help:"Move the end of its validity, also after it has passed."`
	Convert   licenseConvert   `cmd:"" help:"Make a trial a paid license."`
	RotateKey licenseRotateKey `cmd:"" help:"Give it another key; prints it, this once."`
	Transfer  licenseTransfer  `cmd:"" help:"Move it to another tenant, with its leases or when the last has ended; prints its key there."`
	Evict     licenseEvict     `cmd:"" help:"Take one seat back."`
	Revoke    licenseRevoke    `cmd:"" help:"End a license for good, and all its leases at once."`
}

// licenseArg names a license of a tenant.
type licenseArg struct {
	tenantArg
	License string `arg:"" help:"Id of the license, lic_… (ledger license list TENANT shows them)"`
}

func (a licenseArg) path(more ...string) string {
	return a.tenantArg.path(append([]string{"licenses", a.License}, more...)...)
}

func licenseRows(licenses ...api.License) [][]string {
	rows := [][]string{{"LICENSE", "PRODUCT", "STATUS", "IN USE", "SEATS", "LEASE", "ISSUED", "ENDS"}}
	for _, l := range licenses {
		status, ends := string(l.Status), "never"
		if l.Trial {
			status += ", trial"
		}
		if l.ExpiresAt != nil {
			ends = when(*l.ExpiresAt)
		}
		rows = append(rows, []string{l.Id, l.Product, status, fmt.Sprint(l.InUse), fmt.Sprint(l.Seats), seconds(l.LeaseSeconds), when(l.IssuedAt), ends})
	}
	return rows
}

// policyRows are the rules of a license that are not the default.
func policyRows(l api.License) [][]string {
	rows := [][]string{{"RULE", "VALUE"}}
	add := func(yes bool, rule string, value any) {
		if yes {
			rows = append(rows, []string{rule, fmt.Sprint(value)})
		}
	}
	add(l.SeatPer != api.SeatPerProcess, "seat per", l.SeatPer)
	add(true, "heartbeat", seconds(l.HeartbeatSeconds))
	add(l.Overage == api.Unlimited, "overage", l.Overage)
	if l.OveragePercent != nil {
		add(true, "overage", fmt.Sprint(*l.OveragePercent, " %"))
	}
	add(l.ReviveSeconds > 0, "revive within", seconds(l.ReviveSeconds))
	add(l.MaxPerUser > 0, "most per user", l.MaxPerUser)
	add(l.MaxPerMachine > 0, "most per machine", l.MaxPerMachine)
	for _, r := range l.Reservations {
		add(true, "reserved", reservationText(r))
	}
	add(l.BorrowDays > 0, "borrow days", l.BorrowDays)
	add(l.BorrowMax > 0, "most borrowed", l.BorrowMax)
	add(l.BorrowLowWater > 0, "stay online", l.BorrowLowWater)
	add(len(l.Features) > 0, "features", strings.Join(l.Features, ", "))
	if l.StartsAt != nil {
		add(true, "starts", when(*l.StartsAt))
	}
	add(l.GraceDays > 0, "grace days", l.GraceDays)
	add(l.OnShrink != api.Drain, "on shrink", l.OnShrink)
	return rows
}

// rules are those of a policy that can be given and changed. What is not named is not sent.
type rules struct {
	Lease          *wholeSeconds `help:"How long a seat is held without a heartbeat, such as 30s. A new license: 5m."`
	Heartbeat      *wholeSeconds `help:"Suggested time between heartbeats; 0s: a third of the lease."`
	SeatPer        *string       `enum:"process,machine,user" help:"What takes one seat: process, machine or user."`
	Overage        *string       `placeholder:"none|unlimited|PERCENT%" help:"How far beyond its seats it can be used: none, unlimited, or such as 10%."`
	Revive         *wholeSeconds `help:"How long after it ran out a heartbeat revives a lease."`
	MaxPerUser     *int          `help:"The most leases of one user; 0: any number."`
	MaxPerMachine  *int          `help:"The most leases of one machine; 0: any number."`
	Reserve        []string      `sep:"none" placeholder:"NAME=SEATS:USER,…" help:"Keep seats for some users; once for each reservation, or none. NAME=SEATS/5:USER,… gives them the priority 5 (0 to 9) in the queue."`
	BorrowDays     *int          `help:"For how many days a seat can be held offline; 0: not at all."`
	BorrowMax      *int          `help:"The most that may be held offline at once; 0: any number."`
	BorrowLowWater *int          `help:"How many seats stay online, however many are borrowed."`
	Features       *[]string     `help:"What it entitles to, with commas."`
	Starts         *day          `placeholder:"DATE" help:"No seats before this day (UTC)."`
	GraceDays      *int          `help:"Leases go on for so many days after its end."`
	OnShrink       *string       `enum:"drain,evict_newest" help:"When fewer seats remain than are in use: drain or evict_newest."`
}

// request returns the rules as the API takes them.
func (r rules) request() (api.ChangeLicenseRequest, error) {
	req := api.ChangeLicenseRequest{
		LeaseSeconds: (*int)(r.Lease), HeartbeatSeconds: (*int)(r.Heartbeat), ReviveSeconds: (*int)(r.Revive),
		SeatPer: (*api.SeatPer)(r.SeatPer), MaxPerUser: r.MaxPerUser, MaxPerMachine: r.MaxPerMachine,
		BorrowDays: r.BorrowDays, BorrowMax: r.BorrowMax, BorrowLowWater: r.BorrowLowWater,
		StartsAt: (*time.Time)(r.Starts), GraceDays: r.GraceDays, OnShrink: (*api.OnShrink)(r.OnShrink),
	}
	if len(r.Reserve) > 0 {
		reservations, err := parseReservations(r.Reserve)
		if err != nil {
			return req, err
		}
		req.Reservations = &reservations
	}
	if r.Features != nil {
		req.Features = new(append([]string{}, *r.Features...)) // none is an empty list
	}
	if r.Overage == nil {
		return req, nil
	}
	if number, isPercent := strings.CutSuffix(*r.Overage, "%"); isPercent {
		percent, err := strconv.Atoi(number)
		if err != nil {
			return req, hintf("Such as --overage 10%, --overage unlimited or --overage none.", "--overage %s is no percentage", *r.Overage)
		}
		req.Overage, req.OveragePercent = new(api.Percent), &percent
	} else {
		req.Overage = (*api.Overage)(r.Overage)
	}
	return req, nil
}

// parseReservations reads NAME=SEATS:USER,USER or NAME=SEATS/PRIORITY:USER,USER, or the one word none.
func parseReservations(texts []string) ([]api.Reservation, error) {
	all := []api.Reservation{}
	if len(texts) == 1 && texts[0] == "none" {
		return all, nil
	}
	for _, text := range texts {
		name, rest, ok := strings.Cut(text, "=")
		number, users, ok2 := strings.Cut(rest, ":")
		number, priority, prefers := strings.Cut(number, "/")
		r := api.Reservation{Name: name, Users: strings.Split(users, ",")}
		var err, errPriority error
		r.Seats, err = strconv.Atoi(number)
		if prefers {
			r.Priority = new(int)
			*r.Priority, errPriority = strconv.Atoi(priority)
		}
		if !ok || !ok2 || err != nil || errPriority != nil {
			return nil, hintf("Such as --reserve 'render team=2:ada,bob', or --reserve none.", "--reserve %s is no reservation", text)
		}
		all = append(all, r)
	}
	return all, nil
}

// reservationText is what parseReservations reads.
func reservationText(r api.Reservation) string {
	users := r.Users
	if r.Forgotten != nil {
		users = append(slices.Clone(users), fmt.Sprintf("%d forgotten", *r.Forgotten))
	}
	priority := ""
	if r.Priority != nil && *r.Priority > 0 {
		priority = fmt.Sprint("/", *r.Priority)
	}
	return fmt.Sprintf("%s=%d%s:%s", r.Name, r.Seats, priority, strings.Join(users, ","))
}

// wholeSeconds is a time that the API takes in seconds.
type wholeSeconds int

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *wholeSeconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err == nil && d%time.Second != 0 {
		err = fmt.Errorf("must be whole seconds, not %v", d)
	}
	*s = wholeSeconds(d / time.Second)
	return err
}

// day is the beginning of a day, UTC.
type day time.Time

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *day) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return fmt.Errorf("must be a day such as 2027-12-31, not %q", text)
	}
	*d = day(at)
	return nil
}

type licenseIssue struct {
	tenantArg
	Product string `arg:"" help:"What is licensed, such as cad."`
	Seats   int    `required:"" help:"How many may use it at the same time."`
	Trial   bool   `help:"It is a trial, until: ledger license convert."`
	Until   *day   `placeholder:"DATE" help:"No new seats from this day on (UTC)."`
	rules
	changer
}

func (licenseIssue) Help() string {
	return `The license key is printed here and never again; the ledger keeps only a hash of it.

Example:

  ledger license issue acme cad --seats 5
  ledger license issue acme cad --seats 5 --lease 30s --json
  ledger license issue acme cad --seats 9 --reserve 'render team=2:ada,bob' --borrow-days 7
  ledger license issue acme cad --seats 20 --seat-per machine --overage 10% --until 2027-12-31 --grace-days 7`
}

// Run implements the command.
func (c *licenseIssue) Run(ctx context.Context, t terminal) error {
	r, err := c.rules.request()
	if err != nil {
		return err
	}
	var reply api.IssueLicenseResponse
	return c.change(ctx, t, http.MethodPost, c.path("licenses"), api.IssueLicenseRequest{
		Product: c.Product, Seats: c.Seats, Trial: &c.Trial, ExpiresAt: (*time.Time)(c.Until), LeaseSeconds: r.LeaseSeconds, HeartbeatSeconds: r.HeartbeatSeconds,
		SeatPer: r.SeatPer, Overage: r.Overage, OveragePercent: r.OveragePercent, ReviveSeconds: r.ReviveSeconds, MaxPerUser: r.MaxPerUser,
		MaxPerMachine: r.MaxPerMachine, Reservations: r.Reservations, BorrowDays: r.BorrowDays, BorrowMax: r.BorrowMax,
		BorrowLowWater: r.BorrowLowWater, Features: r.Features, StartsAt: r.StartsAt, GraceDays: r.GraceDays, OnShrink: r.OnShrink,
	}, &reply, func(raw json.RawMessage) error {
		if err := c.print(t, raw, licenseRows(reply.License)...); err != nil || c.JSON {
			return err
		}
		_, err := fmt.Fprintf(t.out, `
The license key, shown this once:

  export LEDGER_LICENSE_KEY=%s

Then run a program with a seat:

  ledger run -- PROGRAM
`, reply.Key)
		return err
	})
}

type licenseList struct {
	tenantArg
	reader
	output
}

// Run implements the command.
func (c *licenseList) Run(ctx context.Context, t terminal) error {
	licenses, err := all[api.License](ctx, c.reader, c.path("licenses"), nil)
	if err != nil {
		return err
	}
	if len(licenses.Items) == 0 && !c.JSON {
		_, err := fmt.Fprintf(t.out, "No licenses yet. Make one with: ledger license issue %s PRODUCT --seats 5\n", c.Tenant)
		return err
	}
	return c.print(t, licenses, licenseRows(licenses.Items...)...)
}

type licenseShow struct {
	licenseArg
	reader
	output
}

// Run implements the command.
func (c *licenseShow) Run(ctx context.Context, t terminal) error {
	var reply api.LicenseResponse
	raw, err := c.call(ctx, http.MethodGet, c.path(), nil, &reply)
	if err != nil {
		return err
	}
	if err := c.print(t, raw, licenseRows(reply.License)...); err != nil || c.JSON {
		return err
	}
	fmt.Fprintf(t.out, "\n%s", transferText(reply.License))
	return c.print(t, raw, policyRows(reply.License)...)
}

// transferText says where a license goes, went, or came from.
func transferText(l api.License) string {
	text := ""
	if l.ReceivedBy != nil {
		text = fmt.Sprintf("It came from another tenant (%s).\n\n", *l.ReceivedBy)
	}
	if t := l.Transfer; t != nil {
		says := map[api.TransferState]string{
			api.TransferDraining: "It moves to %s as %s when its last lease has ended, since %s.\n\n", api.TransferGone: "It is on its way to %s as %s, since %s.\n\n",
			api.TransferCompleted: "It moved to %s as %s, at %s.\n\n",
		}
		text += fmt.Sprintf(says[t.State], t.To, t.License, when(t.At))
		if t.Leases > 0 {
			text += fmt.Sprintf("Running leases that went along: %d. Keys from before keep them until %s.\n\n", t.Leases, when(*t.OldKeyUntil))
		}
	}
	return text
}

type licenseHistory struct {
	licenseArg
	reader
	output
}

func (licenseHistory) Help() string {
	return `Newest first. What the tenant was in all at one of these times, with who held what, says: ledger replay --tenant TENANT --at TIME.

Example:

  ledger license history acme lic_…`
}

// Run implements the command.
func (c *licenseHistory) Run(ctx context.Context, t terminal) error {
	versions, err := all[api.LicenseVersion](ctx, c.reader, c.path("history"), nil)
	if err != nil {
		return err
	}
	rows := [][]string{{"FROM", "BY", "WHAT", "CHANGE", "REASON"}}
	for _, v := range versions.Items {
		reason := ""
		if v.Reason != nil {
			reason = *v.Reason
		}
		what := strings.TrimSuffix(strings.TrimPrefix(v.Type, "ai.coditect.license."), ".v1")
		rows = append(rows, []string{when(v.From), v.Actor, what, changeText(v), reason})
	}
	return c.print(t, versions, rows...)
}

// changeText is, for example, "seats 5 -> 7, status active".
func changeText(v api.LicenseVersion) string {
	var before, after map[string]any
	if v.Before != nil {
		before = *v.Before
	}
	if v.After != nil {
		after = *v.After
	}
	var changes []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		text := name
		if was, ok := before[name]; ok {
			text += " " + valueText(was) + " ->"
		}
		changes = append(changes, text+" "+valueText(after[name]))
	}
	return strings.Join(changes, ", ")
}

func valueText(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	if value == nil {
		return "none"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

type licenseQueue struct {
	licenseArg
	reader
	output
}

func (licenseQueue) Help() string {
	return `In the order in which they get seats: those with a higher priority of their reservation first, and then as they came.

Example:

  ledger license queue acme lic_…
  ledger license change acme lic_… --seats 7    # whoever is next gets the new seats at once`
}

// Run implements the command.
func (c *licenseQueue) Run(ctx context.Context, t terminal) error {
	var queue api.LicenseQueue
	raw, err := c.call(ctx, http.MethodGet, c.path("queue"), nil, &queue)
	if err != nil {
		return err
	}
	if len(queue.Items) == 0 && !c.JSON {
		_, err := fmt.Fprintf(t.out, "Nobody waits; %d of %d seats are in use.\n", queue.InUse, queue.Seats)
		return err
	}
	rows := [][]string{{"PLACE", "USER", "MACHINE", "PROCESS", "PRIORITY", "SINCE", "SEAT IN"}}
	for _, w := range queue.Items {
		process, about := "", "?"
		if w.Process != nil {
			process = *w.Process
		}
		if w.EstimateSeconds != nil {
			about = "about " + seconds(*w.EstimateSeconds)
		}
		rows = append(rows, []string{fmt.Sprint(w.Position), w.User, w.Machine, process, fmt.Sprint(w.Priority), when(w.Since), about})
	}
	return c.print(t, raw, rows...)
}

type licenseChange struct {
	licenseArg
	Seats *int `help:"How many may use it at the same time from now on."`
	rules
	changer
}

func (licenseChange) Help() string {
	return `What is not named stays as it is. docs/POLICIES.md has each rule with an example.

Example:

  ledger license change acme lic_… --seat-per machine --overage 10%
  ledger license change acme lic_… --seats 3 --on-shrink evict_newest --dry-run`
}

// Run implements the command.
func (c *licenseChange) Run(ctx context.Context, t terminal) error {
	body, err := c.rules.request()
	if err != nil {
		return err
	}
	body.Seats = c.Seats
	return c.changeLicense(ctx, t, http.MethodPatch, c.path(), body)
}

type licenseResize struct {
	licenseArg
	Seats int `arg:"" help:"How many may use it at the same time from now on."`
	changer
}

// Run implements the command.
func (c *licenseResize) Run(ctx context.Context, t terminal) error {
	return c.changeLicense(ctx, t, http.MethodPatch, c.path(), api.ChangeLicenseRequest{Seats: &c.Seats})
}

type licenseSuspend struct {
	licenseArg
	reason
	changer
}

// Run implements the command.
func (c *licenseSuspend) Run(ctx context.Context, t terminal) error {
	return c.changeLicense(ctx, t, http.MethodPost, c.path("suspend"), c.body())
}

type licenseReinstate struct {
	licenseArg
	reason
	changer
}

// Run implements the command.
func (c *licenseReinstate) Run(ctx context.Context, t terminal) error {
	return c.changeLicense(ctx, t, http.MethodPost, c.path("reinstate"), c.body())
}

type licenseRenew struct {
	licenseArg
	Until   day  `xor:"end" required:"" placeholder:"DATE" help:"No new seats from this day on (UTC), such as 2027-12-31."`
	Forever bool `xor:"end" required:"" help:"It has no end."`
	changer
}

// Run implements the command.
func (c *licenseRenew) Run(ctx context.Context, t terminal) error {
	var body api.RenewLicenseRequest
	if !c.Forever {
		body.ExpiresAt = (*time.Time)(&c.Until)
	}
	return c.changeLicense(ctx, t, http.MethodPost, c.path("renew"), body)
}

type licenseConvert struct {
	licenseArg
	changer
}

// Run implements the command.
func (c *licenseConvert) Run(ctx context.Context, t terminal) error {
	return c.changeLicense(ctx, t, http.MethodPost, c.path("convert"), struct{}{})
}

type licenseRotateKey struct {
	licenseArg
	Overlap time.Duration `default:"168h" help:"How long the present key goes on working, so that programs can be given the new one. Default: ${default}."`
	changer
}

// Run implements the command.
func (c *licenseRotateKey) Run(ctx context.Context, t terminal) error {
	var reply api.RotateKeyResponse
	body := api.RotateKeyRequest{OverlapSeconds: int(c.Overlap / time.Second)}
	return c.change(ctx, t, http.MethodPost, c.path("rotate-key"), body, &reply, func(raw json.RawMessage) error {
		if c.JSON {
			return c.print(t, raw)
		}
		_, err := fmt.Fprintf(t.out, "The new license key, shown this once; the present one works until %s:\n\n  export LEDGER_LICENSE_KEY=%s\n",
			when(reply.OldKeyUntil), reply.Key)
		return err
	})
}

type licenseTransfer struct {
	licenseArg
	To     string `xor:"what" required:"" placeholder:"TENANT" help:"Id of the tenant that gets it."`
	Cancel bool   `xor:"what" required:"" help:"Let it stay: possible while it waits for leases to end."`
	Leases string `enum:"drain,keep" default:"drain" help:"What becomes of running leases: drain waits for their ends, with keep they go along."`
	// Overlap is how long the present key keeps the leases that go along; nil: as the server has it.
	Overlap *time.Duration `help:"How long the present key keeps leases that go along. Default: 24h."`
	reason
	changer
}

func (licenseTransfer) Help() string {
	return `From now on the license gives no new seats. When its last lease has ended (at once, if there is none) it is over here, and
the other tenant has it, with its seats and rules, under another id and with another key. ledger license evict and
ledger status help where a lease does not end.

With --leases keep it goes at once, and running leases go along. Programs keep them with the key that they have until the
overlap is over; for new seats they need the new key.

Example:

  ledger license transfer acme lic_… --to globex --reason "sold"
  ledger license transfer acme lic_… --to globex --leases keep --overlap 72h
  ledger license transfer acme lic_… --cancel`
}

// Run implements the command.
func (c *licenseTransfer) Run(ctx context.Context, t terminal) error {
	if c.Cancel {
		return c.changeLicense(ctx, t, http.MethodPost, c.path("cancel-transfer"), c.body())
	}
	request := api.TransferRequest{To: c.To, Leases: new(api.TransferLeases(c.Leases)), Reason: c.body().Reason}
	if c.Overlap != nil {
		request.OverlapSeconds = new(int(*c.Overlap / time.Second))
	}
	var reply api.TransferResponse
	return c.change(ctx, t, http.MethodPost, c.path("transfer"), request, &reply, func(raw json.RawMessage) error {
		if c.JSON {
			return c.print(t, raw)
		}
		var err error
		if reply.Transfer.State == api.TransferDraining {
			_, err = fmt.Fprintf(t.out, "It moves to %s when its last lease has ended; seats in use: %d. Until then it can stay:\n\n  ledger license transfer %s %s --cancel\n\n",
				c.To, reply.License.InUse, c.Tenant, c.License)
		} else {
			_, err = fmt.Fprintf(t.out, "It is over here, and on its way to %s.\n\n", c.To)
		}
		if n := reply.Transfer.Leases; err == nil && n > 0 {
			_, err = fmt.Fprintf(t.out, "Running leases that go along: %d. The present key keeps them until %s.\n\n", n, when(*reply.Transfer.OldKeyUntil))
		}
		if err == nil {
			_, err = fmt.Fprintf(t.out, "There it is %s. Its key, of use once it is there:\n\n  export LEDGER_LICENSE_KEY=%s\n", reply.Transfer.License, reply.Key)
		}
		return err
	})
}

type licenseEvict struct {
	licenseArg
	Lease string `arg:"" help:"Id of the lease, lse_… (ledger status TENANT shows them)"`
	reason
	changer
}

// Run implements the command.
func (c *licenseEvict) Run(ctx context.Context, t terminal) error {
	var reply api.EvictLeaseResponse
	return c.change(ctx, t, http.MethodPost, c.path("leases", c.Lease, "evict"), c.body(), &reply, func(raw json.RawMessage) error {
		return c.print(t, raw, leaseRows(reply.Lease)...)
	})
}

type licenseRevoke struct {
	licenseArg
	reason
	Yes bool `help:"Really: it cannot be undone."`
	changer
}

// Run implements the command.
func (c *licenseRevoke) Run(ctx context.Context, t terminal) error {
	if !c.Yes && !c.DryRun {
		return hintf("Add --yes to do it. To stop it for a while only: ledger license suspend "+c.Tenant+" "+c.License,
			"revoking %s ends it for good, and all its leases at once", c.License)
	}
	return c.changeLicense(ctx, t, http.MethodPost, c.path("revoke"), c.body())
}
