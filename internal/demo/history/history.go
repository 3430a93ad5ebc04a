package history

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
	_ "time/tzdata" // tenants live in time zones, wherever the program runs

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/identity"
)

// Options is how much history is to be made.
type Options struct {
	// Tenants is how many there are at the end. 0 means 200.
	Tenants int
	// Scale multiplies the people of each tenant, and with them everything. 0 means 1: about a million leases a year.
	Scale float64
	// Days is how long it is; 0 means 365.
	Days int
	// End is when it ends, UTC.
	End  time.Time
	Seed uint64
	// Keys makes the license keys; nil makes keys that open nothing.
	Keys *identity.LicenseKeys
	// Progress is called after each day; nil calls nobody.
	Progress func(daysDone, days int)
}

// Summary is what was made.
type Summary struct {
	Tenants, Licenses, Users int
	Acquires, Denials        int64
	Events                   int64
}

// The defaults of Options.
const (
	TenantsDefault = 200
	DaysDefault    = 365
)

// Scribe takes what happens. eventstore.Backfill is one.
type Scribe interface {
	// Advance moves to a later time.
	Advance(to time.Time) error
	// Do decides a command at that time. A refusal is no error.
	Do(tenant domain.TenantID, actor string, c domain.Command) (*domain.Rejection, error)
	// Pseudonym returns what stands for a name.
	Pseudonym(tenant domain.TenantID, kind eventstore.NameKind, text string) domain.Pseudonym
}

// Begin is when the history begins.
func (o Options) Begin() time.Time {
	return o.End.Add(-time.Duration(o.days()) * 24 * time.Hour).Truncate(time.Minute)
}

func (o Options) days() int {
	if o.Days == 0 {
		return DaysDefault
	}
	return o.Days
}

// Write makes the history in an empty ledger. Errors: eventstore.ErrNotEmpty; ctx.Err.
func Write(ctx context.Context, store eventstore.Store, o Options) (Summary, error) {
	b, err := eventstore.NewBackfill(ctx, store, o.Seed, o.Begin())
	if err != nil {
		return Summary{}, err
	}
	s, err := Tell(ctx, b, o)
	if err != nil {
		return s, err
	}
	s.Events = b.Events()
	return s, b.End()
}

// Tell makes the history for a scribe, which stands at its beginning. Errors: those of the scribe; ctx.Err.
func Tell(ctx context.Context, to Scribe, o Options) (Summary, error) {
	if o.Tenants == 0 {
		o.Tenants = TenantsDefault
	}
	if o.Scale == 0 {
		o.Scale = 1
	}
	w := &world{
		options: o, to: to, begin: o.Begin(), random: rand.New(rand.NewPCG(o.Seed, 1)), agenda: make([][]action, agendaMinutes),
	}
	for i := range o.Tenants {
		w.tenants = append(w.tenants, w.newTenant(i))
	}
	for minute := range o.days() * minutesPerDay {
		if minute%minutesPerDay == 0 {
			if err := ctx.Err(); err != nil {
				return w.summary, err
			}
			if o.Progress != nil {
				o.Progress(minute/minutesPerDay, o.days())
			}
		}
		if err := w.live(minute); err != nil {
			return w.summary, fmt.Errorf("%s: %w", w.at(minute).Format(time.RFC3339), err)
		}
	}
	if o.Progress != nil {
		o.Progress(o.days(), o.days())
	}
	return w.summary, nil
}

const (
	minutesPerDay = 24 * 60
	// agendaMinutes is how far ahead something can be planned.
	agendaMinutes = 3 * minutesPerDay
)

// action is something that somebody does at a time.
type action func(minute int) error

// world is everybody, and what they are about to do.
type world struct {
	options Options
	to      Scribe
	begin   time.Time
	random  *rand.Rand
	tenants []*tenant
	agenda  [][]action // by minute, around and around
	summary Summary
	ids     int
}

func (w *world) at(minute int) time.Time { return w.begin.Add(time.Duration(minute) * time.Minute) }

// plan has somebody do something at a later minute: the next one at least.
func (w *world) plan(now, minute int, a action) {
	minute = min(max(minute, now+1), now+agendaMinutes-1)
	w.agenda[minute%agendaMinutes] = append(w.agenda[minute%agendaMinutes], a)
}

// live lets a minute happen. All of it is at one moment, somewhere in the minute: so it shares commits.
func (w *world) live(minute int) error {
	var mornings []*tenant
	for _, t := range w.tenants {
		if minute >= t.joins && (minute-t.joins)%minutesPerDay == 0 {
			mornings = append(mornings, t)
		}
	}
	todo := w.agenda[minute%agendaMinutes]
	if len(todo)+len(mornings) == 0 && minute%10 > 0 { // what ran out is noticed every ten minutes at least
		return nil
	}
	if err := w.to.Advance(w.at(minute).Add(time.Duration(1+w.random.IntN(59_000)) * time.Millisecond)); err != nil {
		return err
	}
	w.agenda[minute%agendaMinutes] = nil
	for _, t := range mornings {
		if err := t.morning(minute); err != nil {
			return err
		}
	}
	for _, a := range todo {
		if err := a(minute); err != nil {
			return err
		}
	}
	return nil
}

// do decides a command of somebody; refusals are part of life.
func (w *world) do(t *tenant, actor string, c domain.Command) (*domain.Rejection, error) {
	return w.to.Do(t.id, actor, c)
}

// operator is who manages.
const operator = "operator"

// manage decides a command that must not be refused.
func (w *world) manage(t *tenant, c domain.Command) error {
	rejection, err := w.do(t, operator, c)
	if err == nil && rejection != nil {
		err = errors.New(rejection.Detail)
	}
	return err
}

func (w *world) newID(prefix string) string {
	w.ids++
	return fmt.Sprintf("%s%08x", prefix, w.ids)
}

// normal returns a number around mean.
func normal(r *rand.Rand, mean, deviation float64) float64 { return mean + deviation*r.NormFloat64() }

// lognormal returns a positive number with this median.
func lognormal(r *rand.Rand, median, sigma float64) float64 {
	return median * math.Exp(sigma*r.NormFloat64())
}
