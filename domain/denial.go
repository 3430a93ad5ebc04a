package domain

import "time"

// denialEvery is how often at most the refusals of one holder by one license leave an event.
const denialEvery = time.Minute

// denialsMax is how many holders of a tenant are remembered as refused in the last minute. One beyond them leaves an event
// each time.
const denialsMax = 10_000

// denials remembers who was refused in the last minute, so that a program that asks every second leaves one event a minute
// and not sixty. It is a cache: of what it holds, the number of refusals that no event tells of yet is lost with the
// process, which is at most those of a minute.
type denials struct {
	of     map[deniedHolder]*recentDenial
	events []deniedAt // those of the last minute, oldest first; a holder may have a later one
}

type deniedAt struct {
	deniedHolder
	at time.Time
}

type deniedHolder struct {
	license LicenseID
	holder  Holder
}

type recentDenial struct {
	at   time.Time   // of the last event
	last *SeatDenied // what is to be recorded of the refusals since; its Count is how many; nil: there were none
}

// note takes a refusal and returns the event that it leaves, or nil when it was too early for one.
func (d *denials) note(e *SeatDenied, now time.Time) *SeatDenied {
	recent := d.of[deniedHolder{e.License, e.Holder}]
	if recent == nil {
		return e
	}
	if recent.last != nil {
		e.Count = recent.last.Count
	}
	if e.Count++; now.Before(recent.at.Add(denialEvery)) {
		recent.last = e
		return nil
	}
	if e.Count == 1 {
		e.Count = 0
	}
	return e
}

// recorded notes an event, and forgets what is older than a minute.
func (d *denials) recorded(e *SeatDenied, at time.Time) {
	d.forget(at)
	of := deniedHolder{e.License, e.Holder}
	if d.of[of] == nil && len(d.of) >= denialsMax {
		return
	}
	if d.of == nil {
		d.of = map[deniedHolder]*recentDenial{}
	}
	d.of[of] = &recentDenial{at: at}
	d.events = append(d.events, deniedAt{of, at})
}

// forget forgets whoever has nothing to be recorded and was refused more than a minute ago.
func (d *denials) forget(now time.Time) {
	for len(d.events) > 0 {
		first := d.events[0]
		if recent := d.latest(first); recent != nil {
			if recent.last != nil || now.Before(first.at.Add(denialEvery)) {
				return
			}
			delete(d.of, first.deniedHolder)
		}
		d.events = d.events[1:]
	}
}

// latest returns what is known of an event's holder; nil when it has a later one.
func (d *denials) latest(e deniedAt) *recentDenial {
	if recent := d.of[e.deniedHolder]; recent != nil && recent.at.Equal(e.at) {
		return recent
	}
	return nil
}

// due returns when the next event may be due; false when none can be. It is often early.
func (d *denials) due() (time.Time, bool) {
	if len(d.events) == 0 {
		return time.Time{}, false
	}
	return d.events[0].at.Add(denialEvery), true
}

// report returns an event for each holder that was refused again since its last one, a minute ago: at most limit.
func (d *denials) report(now time.Time, limit int) []Event {
	d.forget(now)
	var events []Event
	for _, e := range d.events {
		if len(events) == limit || now.Before(e.at.Add(denialEvery)) {
			break
		}
		if recent := d.latest(e); recent != nil && recent.last != nil {
			events = append(events, recent.last)
		}
	}
	return events
}
