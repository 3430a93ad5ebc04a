package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// tenant is a customer: people, and the licenses that they share.
type tenant struct {
	*world
	random   *rand.Rand
	id       domain.TenantID
	name     string
	zone     *time.Location
	joins    int     // the minute at which it becomes a customer
	leaves   int     // the minute at which it goes; 0: it stays
	people   float64 // at the beginning
	growth   float64 // a year, as a factor
	eager    float64 // how likely somebody works on a working day
	users    []user
	licenses []*license
	// incident is the day of a tenant's own trouble, and rush the first day of two weeks before a deadline; in days of the history.
	incident, rush int
	gone           bool
}

// user is somebody with a machine.
type user struct{ user, machine domain.Pseudonym }

// license is one license of a tenant.
type license struct {
	id       domain.LicenseID
	seats    int
	share    float64 // how many of the people need it on a day
	features []string
	// Since the license was last looked at:
	acquires, denials int
}

var (
	zones = []string{
		"America/New_York", "America/New_York", "America/Chicago", "America/Los_Angeles", "America/Sao_Paulo", "Europe/London",
		"Europe/Berlin", "Europe/Berlin", "Europe/Paris", "Asia/Kolkata", "Asia/Tokyo", "Asia/Singapore", "Australia/Sydney",
	}
	firstNames = []string{
		"Aster", "Boreal", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbor", "Iris", "Juniper", "Keystone", "Lumen", "Meridian",
		"Northwind", "Orbit", "Pinnacle", "Quartz", "Ridge", "Summit", "Tundra", "Umber", "Vertex", "Willow", "Zenith",
	}
	lastNames = []string{"Aero", "Biotech", "Civil", "Design", "Energy", "Foundry", "Labs", "Marine", "Motors", "Optics", "Robotics", "Systems"}
	products  = []struct {
		name     string
		features []string
	}{
		{"cad-studio", []string{"cam", "render"}}, {"flow-solver", []string{"hpc", "mesh"}}, {"circuit-lab", nil}, {"plant-twin", []string{"live"}},
	}
)

// leaseSeconds is long, so that a year needs few heartbeats: they are the larger part of a real journal, and say nothing
// about usage.
const leaseSeconds = 4 * 3600

func (w *world) newTenant(i int) *tenant {
	r := rand.New(rand.NewPCG(w.options.Seed, uint64(i)+1000))
	first, last := firstNames[r.IntN(len(firstNames))], lastNames[r.IntN(len(lastNames))]
	zone, err := time.LoadLocation(zones[r.IntN(len(zones))])
	if err != nil {
		panic(err) // time/tzdata has them all
	}
	t := &tenant{
		world: w, random: r, zone: zone, name: first + " " + last, id: domain.TenantID(fmt.Sprintf("%s-%s-%03d", strings.ToLower(first), strings.ToLower(last), i+1)),
		people: lognormal(r, 7, 0.9), growth: math.Exp(normal(r, 0.15, 0.3)), eager: 0.6 + 0.3*r.Float64(),
		incident: r.IntN(w.options.days()), rush: r.IntN(w.options.days()),
	}
	if i%50 == 7 { // a whale
		t.people, t.growth = 150+150*r.Float64(), 1.1+0.5*r.Float64()
	}
	t.people = math.Max(2, t.people*w.options.Scale)
	whole := w.options.days() * minutesPerDay
	if i%3 == 2 { // joins during the year
		t.joins = r.IntN(whole * 9 / 10)
	}
	// The day begins, and is planned, at about four in the morning.
	local := w.at(t.joins).In(zone)
	t.joins += minutesPerDay + 4*60 - (local.Hour()*60 + local.Minute())
	if t.joins >= minutesPerDay && i%3 != 2 {
		t.joins -= minutesPerDay
	}
	if i%25 == 11 { // goes during the year
		t.leaves = t.joins + (whole-t.joins)/2 + r.IntN(1+(whole-t.joins)/2)
	}
	return t
}

// morning plans the day.
func (t *tenant) morning(minute int) error {
	if t.gone {
		return nil
	}
	if len(t.licenses) == 0 {
		if err := t.join(); err != nil {
			return err
		}
	}
	if t.leaves > 0 && minute >= t.leaves {
		t.gone = true
		for _, l := range t.licenses {
			if err := t.manage(t, domain.RevokeLicense{License: l.id, Reason: "contract ended"}); err != nil {
				return err
			}
		}
		return nil
	}
	day := minute / minutesPerDay
	local := t.at(minute).In(t.zone)
	nine := minute + 9*60 - (local.Hour()*60 + local.Minute()) // by the clock on the wall, summer and winter
	if local.Day() == 1 || local.Day() == 15 {
		if err := t.review(); err != nil {
			return err
		}
	}
	if day == t.incident && day%4 == 0 {
		t.plan(minute, minute+(6+t.random.IntN(6))*60, func(int) error { return t.suspend(minute) })
	}
	activity := t.activity(local, day)
	crew := t.people * math.Pow(t.growth, float64(minute-t.joins)/float64(365*minutesPerDay))
	for n := range int(math.Round(crew)) {
		who := t.user(n)
		for _, l := range t.licenses {
			if t.random.Float64() < activity*l.share {
				t.workday(minute, nine, who, l)
			}
		}
	}
	return nil
}

// activity is how likely somebody works on a day.
func (t *tenant) activity(local time.Time, day int) float64 {
	a := t.eager
	switch local.Weekday() {
	case time.Saturday, time.Sunday:
		a *= 0.06
	case time.Friday:
		a *= 0.85
	}
	switch month, date := local.Month(), local.Day(); {
	case month == time.December && date >= 24, month == time.January && date == 1:
		a *= 0.1
	case month == time.August && strings.HasPrefix(t.zone.String(), "Europe/"):
		a *= 0.75
	}
	if day >= t.rush && day < t.rush+14 {
		a *= 1.25
	}
	return math.Min(a, 0.97)
}

// join makes the tenant and its licenses.
func (t *tenant) join() error {
	if err := t.manage(t, domain.CreateTenant{Tenant: t.id, Name: t.name}); err != nil {
		return err
	}
	t.summary.Tenants++
	first := t.random.IntN(len(products))
	count := 1 + t.random.IntN(2)
	if t.people > 100 {
		count = 3
	}
	for i := range count {
		product := products[(first+i)%len(products)]
		l := &license{id: domain.LicenseID(t.newID("lic_")), share: []float64{0.8, 0.35, 0.2}[i], features: product.features}
		l.seats = max(1, int(math.Ceil(t.people*l.share*t.eager*(0.75+0.4*t.random.Float64()))))
		policy := domain.Policy{LeaseSeconds: leaseSeconds, Features: product.features}
		switch t.random.IntN(8) {
		case 0:
			policy.SeatPer = domain.SeatPerUser
		case 1:
			policy.SeatPer = domain.SeatPerMachine
		case 2:
			policy.Overage, policy.OveragePercent = domain.OveragePercent, 20
		case 3:
			policy.Overage = domain.OverageUnlimited
		}
		key := domain.LicenseKey{ID: domain.KeyID(fmt.Sprintf("%012d", t.ids)), Hash: make([]byte, 32)}
		if t.options.Keys != nil {
			key = t.options.Keys.Stored(t.id, key.ID)
		}
		if err := t.manage(t, domain.IssueLicense{License: l.id, Product: product.name, Seats: l.seats, Policy: policy, Key: key}); err != nil {
			return err
		}
		t.licenses = append(t.licenses, l)
		t.summary.Licenses++
	}
	return nil
}

// review buys seats where too many were denied, and gives some back, seldom, where there are far too many.
func (t *tenant) review() error {
	for _, l := range t.licenses {
		asked := l.acquires + l.denials
		if asked > 0 && l.denials*100 > asked*4 && t.random.IntN(2) == 0 {
			l.seats += max(1, l.seats*15/100)
			if err := t.manage(t, domain.ChangeLicense{License: l.id, Seats: &l.seats}); err != nil {
				return err
			}
		}
		l.acquires, l.denials = 0, 0
	}
	return nil
}

// suspend stops a tenant for two hours: its bill was not paid.
func (t *tenant) suspend(minute int) error {
	t.plan(minute, minute+14*60, func(int) error { return t.manage(t, domain.ReinstateTenant{Reason: "paid"}) })
	return t.manage(t, domain.SuspendTenant{Reason: "unpaid invoice"})
}

// user returns the n-th of the people.
func (t *tenant) user(n int) user {
	for len(t.users) <= n {
		i := len(t.users)
		name := fmt.Sprintf("%s.%s", people[i%len(people)], string(rune('a'+i/len(people)%26)))
		if i >= len(people)*26 {
			name = fmt.Sprintf("%s%d", name, i)
		}
		t.users = append(t.users, user{
			t.to.Pseudonym(t.id, eventstore.UserName, name+"@"+string(t.id)+".example"),
			t.to.Pseudonym(t.id, eventstore.MachineName, fmt.Sprintf("ws-%03d", i+1)),
		})
		t.summary.Users++
	}
	return t.users[n]
}

var people = []string{
	"ada", "alan", "barbara", "claude", "donald", "edsger", "frances", "grace", "hedy", "ivan", "john", "katherine", "ken", "leslie",
	"margaret", "niklaus", "ole", "peter", "radia", "shafi", "tony", "ursula", "vint", "whitfield", "yann",
}

// workday plans one to three sessions of somebody.
func (t *tenant) workday(minute, nine int, who user, l *license) {
	start := normal(t.random, float64(nine)+20, 55)
	for range 1 + t.random.IntN(3) {
		length := math.Min(lognormal(t.random, 95, 0.7), 9*60)
		from := int(start)
		t.plan(minute, from, func(now int) error { return t.acquire(now, who, l, int(length), 3) })
		start += length + 20 + 60*t.random.Float64()
		if start > float64(nine)+10*60 {
			break
		}
	}
}

// acquire takes a seat, and asks again after a while when there is none.
func (t *tenant) acquire(now int, who user, l *license, length, tries int) error {
	if t.gone {
		return nil
	}
	c := domain.AcquireSeat{License: l.id, Lease: domain.LeaseID(t.newID("lse_")), Holder: domain.Holder{User: who.user, Machine: who.machine}}
	if len(l.features) > 0 && t.random.IntN(3) == 0 {
		c.Features = l.features[:1]
	}
	rejection, err := t.do(t, "key:"+string(l.id), c)
	if err != nil {
		return err
	}
	if rejection != nil {
		l.denials++
		t.summary.Denials++
		if tries > 0 {
			t.plan(now, now+3+t.random.IntN(25), func(now int) error { return t.acquire(now, who, l, length, tries-1) })
		}
		return nil
	}
	l.acquires++
	t.summary.Acquires++
	t.hold(now, l, c.Lease, length)
	return nil
}

// hold plans heartbeats and the end of a lease. One in forty programs crashes, on a bad day
// every other: then the lease runs out.
func (t *tenant) hold(now int, l *license, lease domain.LeaseID, left int) {
	const beat = leaseSeconds / 60 * 3 / 4
	if left > beat {
		t.plan(now, now+beat, func(now int) error {
			if t.gone {
				return nil
			}
			_, err := t.do(t, "key:"+string(l.id), domain.HeartbeatSeats{License: l.id, Leases: []domain.LeaseID{lease}})
			t.hold(now, l, lease, left-beat)
			return err
		})
		return
	}
	odds := 40
	if now/minutesPerDay == t.incident {
		odds = 2
	}
	if t.random.IntN(odds) == 0 {
		return
	}
	t.plan(now, now+left, func(int) error {
		_, err := t.do(t, "key:"+string(l.id), domain.ReleaseSeats{License: l.id, Leases: []domain.LeaseID{lease}})
		return err
	})
}
