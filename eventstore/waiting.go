package eventstore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
)

// absentMax is how long a holder keeps its place in the queue of a license while nobody asks for it: time enough to ask again
// after an answer, or at the next owner after a crash; and no longer than a seat may stand empty for somebody who has gone.
const absentMax = 10 * time.Second

// ErrWaiting, as the cause of the end of a context, ends a wait without an answer: the holder stays in the queue, and is to be
// asked for again within 10 s. ErrStopping does so, too. Whatever else cancels a context is a caller that hung up, and leaves the
// queue.
var ErrWaiting = errors.New("it waits for a seat")

// waiting is who asks for the seats that the tenants' queues are for. The queues themselves are in the state: they outlive a
// process. A request that waits is in no commit and holds none up; it is decided again when its holder is called or its time
// is over. Owned by Run.
type waiting struct {
	of       map[domain.TenantID]map[domain.Waiter]*presence
	absences []absence // oldest first; some are over
	parked   int       // requests
}

// presence is a holder in a queue.
type presence struct {
	requests []*request // that wait; none: it is absent
	since    time.Time  // when it came, or this Writer took over
	absent   time.Time  // since when, if it is
}

type absence struct {
	tenant domain.TenantID
	waiter domain.Waiter
	since  time.Time
}

// wakeUp tells Run that a request that waits is to wait no more.
type wakeUp struct {
	request *request
	gone    bool // the caller has gone; else its time is over
	left    bool // it hung up
}

// awaken gives Run a wakeUp.
func (w *Writer) awaken(k wakeUp) {
	select {
	case w.awake <- k:
	case <-w.stopped:
	}
}

// endOf is what a caller hears whose context has ended.
func endOf(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrWaiting) || errors.Is(cause, ErrStopping) {
		return cause
	}
	return ErrUnknown
}

// begin notes who is in the queues at a take-over. Nobody can have asked before it.
func (q *waiting) begin(s *State) {
	*q = waiting{}
	s.Tenants(func(t *domain.Tenant) {
		for _, waiter := range t.Waiters() {
			q.seen(t.ID, waiter)
		}
	})
}

// at returns the presence of a holder.
func (q *waiting) at(tenant domain.TenantID, waiter domain.Waiter) *presence {
	if q.of == nil {
		q.of = map[domain.TenantID]map[domain.Waiter]*presence{}
	}
	if q.of[tenant] == nil {
		q.of[tenant] = map[domain.Waiter]*presence{}
	}
	p := q.of[tenant][waiter]
	if p == nil {
		p = &presence{since: time.Now()}
		q.of[tenant][waiter] = p
	}
	return p
}

// seen notes that somebody asked for a holder in a queue, and was answered.
func (q *waiting) seen(tenant domain.TenantID, waiter domain.Waiter) {
	if p := q.at(tenant, waiter); len(p.requests) == 0 {
		p.absent = time.Now()
		q.absences = append(q.absences, absence{tenant, waiter, p.absent})
	}
}

// park lets a request wait, whose holder is in the queue.
func (q *waiting) park(r *request, waiter domain.Waiter) {
	r.waiter, r.parked = waiter, true
	p := q.at(r.Tenant, waiter)
	p.requests = append(p.requests, r)
	q.parked++
}

// unpark ends the waiting of a request, and reports whether it waited.
func (q *waiting) unpark(r *request) bool {
	if !r.parked {
		return false
	}
	p := q.of[r.Tenant][r.waiter]
	p.requests = slices.DeleteFunc(p.requests, func(other *request) bool { return other == r })
	r.parked = false
	q.parked--
	q.seen(r.Tenant, r.waiter)
	return true
}

// unparkAll ends the waiting of all requests of a holder, and returns them.
func (q *waiting) unparkAll(p *presence) []*request {
	all := slices.Clone(p.requests)
	for _, r := range all {
		q.unpark(r)
	}
	return all
}

// drop ends the waiting of all requests and returns them, those of one holder in the order in which they came.
func (q *waiting) drop() []*request {
	var all []*request
	for _, holders := range q.of {
		for _, p := range holders {
			for _, r := range p.requests {
				r.parked = false
			}
			all = append(all, p.requests...)
		}
	}
	*q = waiting{}
	return all
}

// remove forgets a holder that is in the queue no more, and returns what still waits for it.
func (q *waiting) remove(tenant domain.TenantID, waiter domain.Waiter) (*presence, []*request) {
	p := q.of[tenant][waiter]
	if p == nil {
		return nil, nil
	}
	left := q.unparkAll(p)
	if delete(q.of[tenant], waiter); len(q.of[tenant]) == 0 {
		delete(q.of, tenant)
	}
	return p, left
}

// overdue returns, and forgets, the absences that lasted too long.
func (q *waiting) overdue(now time.Time) (all []absence) {
	for len(q.absences) > 0 {
		a := q.absences[0]
		if p := q.of[a.tenant][a.waiter]; p != nil && len(p.requests) == 0 && p.absent.Equal(a.since) {
			if now.Before(a.since.Add(absentMax)) {
				return all
			}
			all = append(all, a)
		}
		q.absences = q.absences[1:]
	}
	return all
}

// next returns when an absence may have lasted too long; false when nobody is absent.
func (q *waiting) next() (time.Time, bool) {
	if len(q.absences) == 0 {
		return time.Time{}, false
	}
	return q.absences[0].since.Add(absentMax), true
}

// call has those decided again for whom there is a seat in t now, or for whom there will be none.
func (w *Writer) call(t *tenantState, now domain.Moment) {
	present := w.waiting.of[t.ID]
	if len(present) == 0 {
		return
	}
	for _, waiter := range t.Called(now) {
		if p := present[waiter]; p != nil {
			w.backlog = append(w.backlog, w.waiting.unparkAll(p)...)
		}
	}
}

// dequeue forgets who left a queue by events of t, and has whatever else waits for the same holder decided again.
func (w *Writer) dequeue(t *tenantState, events []domain.Event) {
	if len(w.waiting.of[t.ID]) == 0 {
		return
	}
	remove := func(license domain.LicenseID, holder domain.Holder) *presence {
		p, left := w.waiting.remove(t.ID, domain.Waiter{License: license, Holder: holder})
		w.backlog = append(w.backlog, left...)
		return p
	}
	for _, event := range events {
		switch e := event.(type) {
		case *domain.SeatAcquired:
			if p := remove(e.License, e.Holder); p != nil {
				w.metrics.seatWait.Observe(time.Since(p.since).Seconds())
			}
		case *domain.SeatDequeued:
			remove(e.License, e.Holder)
		}
	}
}

// wake ends the waiting of a request whose time is over, or whose caller has gone.
func (w *Writer) wake(k wakeUp) {
	r := k.request
	parked := w.waiting.unpark(r)
	if !k.gone {
		r.over = true
		if parked {
			w.backlog = append(w.backlog, r)
		}
		return
	}
	if parked {
		r.finish(ErrUnknown) // nobody hears it
	}
	if p := w.waiting.of[r.Tenant][r.waiter]; k.left && p != nil && len(p.requests) == 0 {
		w.backlog = append(w.backlog, w.leave(r.Tenant, r.waiter, domain.DequeuedByCaller, r.Actor, r.Traceparent))
	}
}

// absentees returns requests to take those out of their queues who have been absent for too long.
func (w *Writer) absentees() []*request {
	var all []*request
	for _, a := range w.waiting.overdue(time.Now()) {
		all = append(all, w.leave(a.tenant, a.waiter, domain.DequeuedByAbsence, actorWriter, ""))
	}
	return all
}

// leave returns a request of the Writer's own.
func (w *Writer) leave(tenant domain.TenantID, waiter domain.Waiter, cause domain.DequeueCause, actor, traceparent string) *request {
	w.others.open.Add(1)
	return &request{
		ctx: context.Background(), done: make(chan struct{}), lane: w.others, queued: time.Now(),
		Request: Request{Tenant: tenant, Actor: actor, Traceparent: traceparent, Prepare: func(Scope) (domain.Command, error) {
			return domain.LeaveQueue{License: waiter.License, Holder: waiter.Holder, Cause: cause}, nil
		}},
	}
}
