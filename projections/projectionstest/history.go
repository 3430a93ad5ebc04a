package projectionstest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// TB is the part of testing.TB that a History needs; a *rapid.T has it, too.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// History writes commits to a ledger by hand, so that a test decides which events share a commit and when they happen.
// The events are those that the domain decides, so every history is a legal one.
type History struct {
	// Now is the time of the next commit.
	Now time.Time

	t          TB
	store      eventstore.Store
	tenants    map[domain.TenantID]*domain.Tenant
	heads      map[domain.TenantID]eventstore.Hash
	partitions map[eventstore.Partition]*partition
	ids        int
}

// partition is what waits for the next commit, and where that goes.
type partition struct {
	at        eventstore.Checkpoint
	last      eventstore.Place // the commit at at
	directory *eventstore.Directory
	order     []domain.TenantID
	pending   map[domain.TenantID][]domain.Event
}

// NewHistory returns the history of an empty ledger.
func NewHistory(t TB, store eventstore.Store) *History {
	return &History{
		Now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), t: t, store: store,
		tenants: map[domain.TenantID]*domain.Tenant{}, heads: map[domain.TenantID]eventstore.Hash{},
		partitions: map[eventstore.Partition]*partition{},
	}
}

// Tenant returns the state of a tenant, with what waits for its commit.
func (h *History) Tenant(id domain.TenantID) *domain.Tenant {
	if h.tenants[id] == nil {
		h.tenants[id] = domain.NewTenant(id)
	}
	return h.tenants[id]
}

// Do lets the domain decide on a command; what it leaves waits for Commit. A refusal is fine, too. It returns the number
// of events.
func (h *History) Do(id domain.TenantID, c domain.Command) int {
	h.t.Helper()
	tenant := h.Tenant(id)
	events, _ := c.Decide(tenant, domain.Moment{At: h.Now})
	for _, e := range events {
		tenant.Apply(h.Now, e)
	}
	if len(events) > 0 {
		p := h.partition(h.store.Info().PartitionOf(id))
		if p.pending[id] == nil {
			p.order = append(p.order, id)
		}
		p.pending[id] = append(p.pending[id], events...)
	}
	return len(events)
}

// Create makes a tenant with one license.
func (h *History) Create(id domain.TenantID, license domain.LicenseID, seats int) {
	h.t.Helper()
	h.Do(id, domain.CreateTenant{Tenant: id, Name: "The " + string(id)})
	h.Issue(id, license, seats)
}

// Issue gives a tenant a license with leases of five minutes.
func (h *History) Issue(id domain.TenantID, license domain.LicenseID, seats int) {
	h.t.Helper()
	h.Do(id, domain.IssueLicense{
		License: license, Product: "cad", Seats: seats, Policy: domain.Policy{LeaseSeconds: 300}, Key: domain.LicenseKey{ID: domain.KeyID(license)},
	})
}

// Acquire takes a seat for a user, whose pseudonym is "u_" and the name, on the machine m_1 unless another follows an @. It
// returns the lease: "lse_" and a number.
func (h *History) Acquire(id domain.TenantID, license domain.LicenseID, user string) domain.LeaseID {
	h.t.Helper()
	return h.acquire(id, license, user, false)
}

func (h *History) acquire(id domain.TenantID, license domain.LicenseID, user string, wait bool) domain.LeaseID {
	h.t.Helper()
	h.ids++
	lease := domain.LeaseID(fmt.Sprintf("lse_%d", h.ids))
	user, machine, elsewhere := strings.Cut(user, "@")
	if !elsewhere {
		machine = "m_1"
	}
	h.Do(id, domain.AcquireSeat{License: license, Lease: lease, Queue: wait, Holder: domain.Holder{User: domain.Pseudonym("u_" + user), Machine: domain.Pseudonym(machine)}})
	return lease
}

// Wait is Acquire for a user who waits for a seat.
func (h *History) Wait(id domain.TenantID, license domain.LicenseID, user string) domain.LeaseID {
	h.t.Helper()
	return h.acquire(id, license, user, true)
}

// Name adds an entry to the directory; the commits from now on need it.
func (h *History) Name(id domain.TenantID, pseudonym domain.Pseudonym, kind eventstore.NameKind, text string) {
	h.t.Helper()
	h.Names(eventstore.Name{Tenant: id, Pseudonym: pseudonym, Kind: kind, Text: text})
}

// Names adds entries to the directory as one record; they are of one partition.
func (h *History) Names(names ...eventstore.Name) {
	h.t.Helper()
	if err := h.partition(h.store.Info().PartitionOf(names[0].Tenant)).directory.Add(names); err != nil {
		h.t.Fatalf("names: %v", err)
	}
}

// Forget deletes the entry of a user, and erases what held it; the event waits for Commit.
func (h *History) Forget(id domain.TenantID, pseudonym domain.Pseudonym) {
	h.t.Helper()
	directory := h.partition(h.store.Info().PartitionOf(id)).directory
	err := directory.Forget(context.Background(), eventstore.Forgotten{Tenant: id, Pseudonym: pseudonym, Kind: eventstore.UserName})
	if err == nil {
		err = directory.Erase(context.Background())
	}
	if err != nil {
		h.t.Fatalf("forget: %v", err)
	}
	h.Do(id, domain.ForgetPerson{Pseudonym: pseudonym, Kind: string(eventstore.UserName)})
}

// Commit stores what waits, one commit per partition, and lets a second pass. It returns the positions after it.
func (h *History) Commit() []eventstore.Position {
	h.t.Helper()
	var positions []eventstore.Position
	_ = h.store.Info().All(func(p eventstore.Partition) error {
		if waiting := h.partition(p); len(waiting.order) > 0 {
			h.commit(p, waiting)
			positions = append(positions, eventstore.Position{Partition: p, Seq: waiting.at.Seq})
		}
		return nil
	})
	h.Now = h.Now.Add(time.Second)
	return positions
}

// Append stores a commit with this body after the last one, whatever it says.
func (h *History) Append(p eventstore.Partition, body []byte) {
	h.t.Helper()
	at := h.partition(p)
	c := eventstore.Commit{ID: uuid.NewString(), Epoch: 1, Prev: at.at.Hash, Directory: at.directory.Seq(), Body: body}
	if err := <-h.store.Journal(p).Append(at.last, c.Record()); err != nil {
		h.t.Fatalf("append: %v", err)
	}
	at.last = eventstore.Place{Seq: at.last.Seq + 1, ID: c.ID}
	at.at = eventstore.Checkpoint{Seq: at.last.Seq, Hash: c.Hash()}
}

func (h *History) partition(p eventstore.Partition) *partition {
	if h.partitions[p] == nil {
		h.partitions[p] = &partition{
			directory: eventstore.NewDirectory(h.store.Directory(p)), pending: map[domain.TenantID][]domain.Event{},
		}
	}
	return h.partitions[p]
}

func (h *History) commit(p eventstore.Partition, waiting *partition) {
	body := []byte("[")
	for _, id := range waiting.order {
		events := waiting.pending[id]
		start := len(body)
		for i, e := range events {
			if i > 0 {
				body = append(body, ',')
			} else if start > 1 {
				body = append(body, ',')
				start++
			}
			body = append(body, h.encode(id, h.tenants[id].Version-uint64(len(events)-1-i), i == 0, e)...)
		}
		h.heads[id] = h.heads[id].Next(body[start:])
	}
	h.Append(p, append(body, ']'))
	waiting.order, waiting.pending = nil, map[domain.TenantID][]domain.Event{}
}

func (h *History) encode(id domain.TenantID, version uint64, first bool, data domain.Event) []byte {
	event := struct {
		SpecVersion string           `json:"specversion"`
		ID          string           `json:"id"`
		Source      string           `json:"source"`
		Type        string           `json:"type"`
		Subject     string           `json:"subject,omitzero"`
		Time        time.Time        `json:"time"`
		Tenant      domain.TenantID  `json:"tenant"`
		Version     uint64           `json:"version,string"`
		Prev        *eventstore.Hash `json:"prev,omitzero"`
		Actor       string           `json:"actor"`
		Data        domain.Event     `json:"data"`
	}{
		SpecVersion: "1.0", ID: fmt.Sprintf("%s-%d", id, version), Source: "/ledgers/test", Type: data.EventType(), Subject: data.EventSubject(),
		Time: h.Now, Tenant: id, Version: version, Actor: "operator", Data: data,
	}
	if first {
		head := h.heads[id]
		event.Prev = &head
	}
	encoded, err := json.Marshal(event)
	if err != nil {
		h.t.Fatalf("encode: %v", err)
	}
	return encoded
}
