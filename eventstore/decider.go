package eventstore

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// decider decides the commands of one commit.
type decider struct {
	writer  *Writer
	builder *commitBuilder
	moment  domain.Moment

	decided []*request // to be answered when the commit is stored
	names   []Name     // new pseudonyms of this commit

	nameBytes int
	forgotten *Forgotten // whose name is to be deleted with this commit: the last that it decides; nil: nobody's
}

// prepared is a request with its command.
type prepared struct {
	*request
	command domain.Command
}

// decide decides requests and returns those that did not fit in the commit. Urgent ones come first, and among them
// heartbeats: those of one license become one event, and a client that waits for an answer has none of the others on its
// way. Then come the other urgent ones: what they release, the rest may acquire.
//
// The rest is looked at only while there is room: when thousands wait, looking at them all for each commit would make the
// Writer slowest when it is needed most.
func (d *decider) decide(requests []*request) []*request {
	type licenseOf struct {
		tenant  domain.TenantID
		license domain.LicenseID
	}
	beats := map[licenseOf][]prepared{}
	var order []licenseOf
	var urgent []prepared
	var others, left []*request
	for _, r := range requests {
		if !r.Urgent {
			others = append(others, r)
			continue
		}
		p, ok := d.prepare(r)
		if !ok {
			continue
		}
		beat, isBeat := p.command.(domain.HeartbeatSeats)
		if !isBeat || r.Idempotency != nil || beat.Fence != 0 {
			urgent = append(urgent, p)
			continue
		}
		of := licenseOf{r.Tenant, beat.License}
		if beats[of] == nil {
			order = append(order, of)
		}
		beats[of] = append(beats[of], p)
	}
	for _, of := range order {
		left = append(left, d.heartbeats(of.license, beats[of])...)
	}
	for _, p := range urgent {
		if d.full() {
			left = append(left, p.request)
			continue
		}
		d.one(p)
	}
	for i, r := range others {
		if d.full() {
			return append(left, others[i:]...)
		}
		if p, ok := d.prepare(r); ok {
			d.one(p)
		}
	}
	return left
}

// full reports whether the commit takes no further command.
func (d *decider) full() bool {
	return max(d.builder.size, d.nameBytes) >= commitFull || d.forgotten != nil
}

// prepare returns the command of a request, or answers the request.
func (d *decider) prepare(r *request) (prepared, bool) {
	p := prepared{request: r}
	if r.taken.IsZero() {
		r.taken = time.Now()
		d.writer.metrics.wait.Observe(r.taken.Sub(r.queued).Seconds())
	}
	if r.ctx.Err() != nil {
		r.finish(ErrUnknown) // nobody waits any more
		return p, false
	}
	scope := Scope{
		Tenant:    d.writer.state.tenant(r.Tenant).Tenant,
		Now:       d.moment.At,
		Known:     func(kind NameKind, text string) domain.Pseudonym { return d.known(r.Tenant, kind, text) },
		Pseudonym: func(kind NameKind, text string) domain.Pseudonym { return d.pseudonym(r, kind, text) },
	}
	err := guard(func() (err error) {
		p.command, err = r.Prepare(scope)
		return err
	})
	if err != nil {
		d.reply(r, domain.Answer{}, err)
	}
	return p, err == nil
}

// one decides one command, or repeats the answer that its Idempotency-Key got before.
func (d *decider) one(p prepared) {
	t := d.writer.state.tenant(p.Tenant)
	if p.DryRun {
		err := guard(func() (err error) {
			p.result.Events, err = p.command.Decide(t.Tenant, d.moment)
			return err
		})
		d.reply(p.request, domain.Answer{}, err)
		return
	}
	acquire, acquires := p.command.(domain.AcquireSeat)
	if acquires {
		acquire.Queue = p.Wait > 0 && !p.over
		p.command = acquire
	}
	command := newID()
	if p.Idempotency != nil {
		if recorded, ok := t.answers.get(p.Idempotency.Key, d.moment.At); ok && !recorded.waits(*p.Idempotency) {
			d.repeat(p, t, recorded)
			return
		}
		command = p.Idempotency.commandID()
	}
	events, rejection, err := d.execute(t, p.command, attributes{p.Actor, command, p.Traceparent})
	if err != nil {
		d.reply(p.request, domain.Answer{}, err)
		return
	}
	if len(events) > 0 {
		if e, ok := events[len(events)-1].(*domain.PersonForgotten); ok {
			d.forgotten = &Forgotten{
				Tenant: p.Tenant, Pseudonym: e.Pseudonym, Kind: NameKind(e.Kind), Reason: e.Reason,
				Actor: p.Actor, Command: command, Traceparent: p.Traceparent,
			}
		}
	}
	answer := domain.Answer{}
	if rejection == nil {
		answer = p.command.Answer(t.Tenant, events)
	}
	if p.Idempotency != nil {
		recorded := recordedAnswer{at: d.moment.At, known: true, answer: answer, rejection: rejection}
		if len(events) > 0 {
			// What a replay would record, and not more: the answer to a repeat must not depend on a restart.
			recorded.answer, recorded.rejection, recorded.known = domain.Recall(t.Tenant, events)
		}
		t.answers.put(*p.Idempotency, recorded)
	}
	waiter := domain.Waiter{License: acquire.License, Holder: acquire.Holder}
	switch {
	case answer.Queued && d.writer.stopping:
		d.reply(p.request, answer, ErrStopping)
		return
	case answer.Queued:
		d.writer.waiting.park(p.request, waiter)
		return
	case rejection != nil && rejection.Position > 0:
		d.writer.waiting.seen(p.Tenant, waiter)
	}
	d.reply(p.request, answer, errorOf(rejection))
}

// repeat answers a command that was done before.
func (d *decider) repeat(p prepared, t *tenantState, recorded recordedAnswer) {
	switch {
	case recorded.fingerprint != p.Idempotency.Fingerprint:
		d.reply(p.request, domain.Answer{}, ErrKeyReused)
	case !recorded.known:
		d.reply(p.request, p.command.Answer(t.Tenant, nil), nil)
	default:
		d.reply(p.request, recorded.answer, errorOf(recorded.rejection))
	}
}

// heartbeats renews the leases of all requests for one license with as few events as fit, and returns the requests for
// which the commit has no room.
func (d *decider) heartbeats(license domain.LicenseID, all []prepared) []*request {
	t := d.writer.state.tenant(all[0].Tenant)
	for len(all) > 0 && !d.full() {
		merged := domain.HeartbeatSeats{License: license}
		n := 0
		for n < len(all) && len(merged.Leases) < heartbeatMax {
			merged.Leases = append(merged.Leases, all[n].command.(domain.HeartbeatSeats).Leases...)
			n++
		}
		// One event serves many callers. It carries the actor and the trace of the first.
		_, rejection, err := d.execute(t, merged, attributes{all[0].Actor, newID(), all[0].Traceparent})
		if err == nil {
			err = errorOf(rejection)
		}
		for _, p := range all[:n] {
			answer := domain.Answer{}
			if err == nil {
				answer = p.command.Answer(t.Tenant, nil)
			}
			d.reply(p.request, answer, err)
		}
		all = all[n:]
	}
	left := make([]*request, len(all))
	for i, p := range all {
		left[i] = p.request
	}
	return left
}

// errorOf returns a rejection as an error that is nil when there is none.
func errorOf(r *domain.Rejection) error {
	if r == nil {
		return nil
	}
	return r
}

// heartbeatMax is about how many leases one heartbeat event names, so that it stays well below requestMax.
const heartbeatMax = 2000

// execute decides a command and adds its events to the commit. A refusal may leave events, too.
func (d *decider) execute(t *tenantState, c domain.Command, a attributes) ([]domain.Event, *domain.Rejection, error) {
	var events []domain.Event
	err := guard(func() (err error) {
		events, err = c.Decide(t.Tenant, d.moment)
		return err
	})
	var rejection *domain.Rejection
	if err != nil && !errors.As(err, &rejection) {
		return nil, nil, err
	}
	if len(events) > 0 {
		if err := d.builder.add(t, events, a); err != nil {
			return nil, nil, err
		}
		d.writer.state.put(t)
		d.writer.dequeue(t, events)
	}
	return events, rejection, nil
}

// reply holds an answer back until the commit is stored.
func (d *decider) reply(r *request, answer domain.Answer, err error) {
	r.result.Answer, r.err = answer, err
	d.decided = append(d.decided, r)
}

// pseudonym returns what stands for a text, and notes a new one to be stored before the commit. A dry run leaves nothing, so
// no name either.
func (d *decider) pseudonym(r *request, kind NameKind, text string) domain.Pseudonym {
	if text == "" {
		return ""
	}
	if known := d.known(r.Tenant, kind, text); known != "" {
		return known
	}
	p := newPseudonym(kind)
	if !r.DryRun {
		d.names = append(d.names, Name{Tenant: r.Tenant, Pseudonym: p, Kind: kind, Text: text})
		d.nameBytes += len(text)
	}
	return p
}

// known returns what stands for a text, in the directory or in this commit; empty when nothing does.
func (d *decider) known(tenant domain.TenantID, kind NameKind, text string) domain.Pseudonym {
	if known := d.writer.directory.Pseudonym(tenant, kind, text); known != "" {
		return known
	}
	for _, n := range d.names {
		if n.Tenant == tenant && n.Kind == kind && n.Text == text {
			return n.Pseudonym
		}
	}
	return ""
}

// guard turns a panic of a decision, which has changed nothing yet, into an error: one caller's trouble must not end
// the service of all.
func guard(f func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return f()
}

// attributes are what the events of one command have in common.
type attributes struct{ actor, command, traceparent string }

const actorWriter = "writer"

// commitBuilder collects the events of one commit, those of one tenant together.
type commitBuilder struct {
	source string
	newID  func() string
	at     time.Time
	slices []*tenantSlice
	of     map[domain.TenantID]*tenantSlice
	size   int // of the body so far, in bytes
	count  int // of events
}

type tenantSlice struct {
	tenant *tenantState // nil for the system's own events
	body   []byte
}

func newCommitBuilder(source string, at time.Time) *commitBuilder {
	return &commitBuilder{source: source, newID: newID, at: at, of: map[domain.TenantID]*tenantSlice{}}
}

// add encodes events of t and applies them to it. On an error nothing was added or applied.
func (b *commitBuilder) add(t *tenantState, events []domain.Event, a attributes) error {
	if len(events) == 0 {
		return nil
	}
	slice := b.of[t.ID]
	fresh := slice == nil
	if fresh {
		slice = &tenantSlice{tenant: t}
	}
	body := slice.body
	for i, data := range events {
		e := Event{
			ID: b.newID(), Type: data.EventType(), Subject: data.EventSubject(), Time: b.at,
			Tenant: t.ID, Version: t.Version + uint64(i) + 1,
			Actor: a.actor, Command: a.command, Traceparent: a.traceparent, Data: data,
		}
		if len(body) == 0 {
			e.Prev = &t.head
		} else {
			body = append(body, ',')
		}
		var err error
		if body, err = appendEvent(body, b.source, e); err != nil {
			return err
		}
	}
	if len(body)-len(slice.body) > requestMax {
		return fmt.Errorf("the events of one command take %d bytes, more than %d", len(body)-len(slice.body), requestMax)
	}
	if fresh {
		b.of[t.ID] = slice
		b.slices = append(b.slices, slice)
	}
	b.size += len(body) - len(slice.body) + 1
	b.count += len(events)
	slice.body = body
	for _, data := range events {
		t.Apply(b.at, data)
	}
	return nil
}

// addSystem adds an event without tenant.
func (b *commitBuilder) addSystem(data domain.Event) error {
	body, err := appendEvent(nil, b.source, Event{ID: b.newID(), Type: data.EventType(), Time: b.at, Actor: actorWriter, Data: data})
	if err != nil {
		return err
	}
	b.slices = append(b.slices, &tenantSlice{body: body})
	b.size += len(body) + 1
	b.count++
	return nil
}

// seal ends the commit: it moves the tenants' chains on and returns the commit, to be sent, and the partition's chain
// after it.
func (b *commitBuilder) seal(s *State, epoch, directory uint64) (*pendingCommit, Checkpoint) {
	body := make([]byte, 0, b.size+1)
	body = append(body, '[')
	for i, slice := range b.slices {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, slice.body...)
		if slice.tenant != nil {
			slice.tenant.head = slice.tenant.head.Next(slice.body)
		}
	}
	body = append(body, ']')
	c := Commit{ID: b.newID(), Epoch: epoch, Prev: s.Checkpoint.Hash, Directory: directory, Body: body}
	return &pendingCommit{after: s.last, record: c.Record(), names: directory}, Checkpoint{Seq: s.last.Seq + 1, Hash: c.Hash()}
}
