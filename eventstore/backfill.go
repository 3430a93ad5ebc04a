package eventstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/coditect-ai/license-ledger/domain"
)

// Backfill writes the beginning of an empty ledger: what was decided at times that have passed. The commits are those that
// Writers would have left, decided by the domain, chained and named in the directory; so a Writer goes on from them. With the
// same seed and the same calls the same ledger gets the same bytes.
//
// It is not safe for concurrent use, and nobody else may write to the ledger meanwhile.
type Backfill struct {
	store  Store
	parts  []*backfillPart
	random *rand.ChaCha8
	at     time.Time
	events int64
}

// backfillPart is one partition of a Backfill.
type backfillPart struct {
	state     *State
	journal   Log
	directory *Directory
	builder   *commitBuilder // nil when nothing was decided at this time yet
	names     []Name         // not stored yet; known says what they are
	known     map[Name]domain.Pseudonym
	inFlight  []*pendingCommit
}

// ErrNotEmpty: the ledger has commits already.
var ErrNotEmpty = errors.New("the ledger is not empty")

// NewBackfill begins at a time, with an epoch of its own. Errors: ErrNotEmpty, with what was found.
func NewBackfill(ctx context.Context, store Store, seed uint64, at time.Time) (*Backfill, error) {
	b := &Backfill{store: store, at: at.UTC().Truncate(time.Millisecond)}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b.random = rand.NewChaCha8(key)
	err := store.Info().All(func(p Partition) error {
		for what, log := range map[string]Log{"commits": store.Journal(p), "directory records": store.Directory(p)} {
			last, err := log.Last(ctx)
			if err != nil {
				return err
			}
			if last > 0 {
				return fmt.Errorf("%w: partition %d has %d %s", ErrNotEmpty, p, last, what)
			}
		}
		part := &backfillPart{
			state: NewState(), journal: store.Journal(p), directory: NewDirectory(store.Directory(p)), known: map[Name]domain.Pseudonym{},
		}
		b.parts = append(b.parts, part)
		event := &WriterEpochStarted{Epoch: 1, Writer: b.newID()}
		part.builder = b.newBuilder()
		if err := part.builder.addSystem(event); err != nil {
			return err
		}
		part.state.Epoch, part.state.EpochStart = event.Epoch, b.at
		return nil
	})
	return b, err
}

// Now is the time of the next events.
func (b *Backfill) Now() time.Time { return b.at }

// Events is how many were decided.
func (b *Backfill) Events() int64 { return b.events }

// Tenant returns the state of a tenant, to be read only.
func (b *Backfill) Tenant(id domain.TenantID) *domain.Tenant {
	return b.part(id).state.tenant(id).Tenant
}

// Advance moves to a later time, rounded down to milliseconds, at which leases that have run out by then expire.
func (b *Backfill) Advance(to time.Time) error {
	to = to.UTC().Truncate(time.Millisecond)
	if !to.After(b.at) {
		return fmt.Errorf("backfill: %s is not after %s", to, b.at)
	}
	if err := b.flush(); err != nil {
		return err
	}
	b.at = to
	for _, part := range b.parts {
		for t := part.state.takeDue(to); t != nil; t = part.state.takeDue(to) {
			if _, err := b.decide(part, t.ID, domain.ExpireSeats{Max: expireMax}, attributes{actor: actorWriter}); err != nil {
				return err
			}
			part.state.restore(t) // also when nothing was due yet
		}
	}
	return nil
}

// Pseudonym returns what stands for a text, new when nothing does yet.
func (b *Backfill) Pseudonym(tenant domain.TenantID, kind NameKind, text string) domain.Pseudonym {
	part := b.part(tenant)
	of := Name{Tenant: tenant, Kind: kind, Text: text}
	if part.known[of] == "" {
		var random [pseudonymBytes]byte
		b.random.Read(random[:]) // never fails
		part.known[of] = pseudonymOf(kind, random)
		named := of
		named.Pseudonym = part.known[of]
		part.names = append(part.names, named)
	}
	return part.known[of]
}

// Do decides a command. A refusal is no error: it is returned beside the events it left.
func (b *Backfill) Do(tenant domain.TenantID, actor string, c domain.Command) (*domain.Rejection, error) {
	return b.decide(b.part(tenant), tenant, c, attributes{actor: actor, command: b.newID()})
}

func (b *Backfill) decide(part *backfillPart, tenant domain.TenantID, c domain.Command, a attributes) (*domain.Rejection, error) {
	if part.builder != nil && part.builder.size >= commitFull {
		if err := part.commit(b); err != nil {
			return nil, err
		}
	}
	if part.builder == nil {
		part.builder = b.newBuilder()
	}
	t := part.state.tenant(tenant)
	events, err := c.Decide(t.Tenant, domain.Moment{At: b.at, Epoch: part.state.EpochStart})
	var rejection *domain.Rejection
	if err != nil && !errors.As(err, &rejection) {
		return nil, err
	}
	if len(events) > 0 {
		if err := part.builder.add(t, events, a); err != nil {
			return rejection, err
		}
		part.state.put(t)
		b.events += int64(len(events))
	}
	return rejection, nil
}

// End returns when all is stored.
func (b *Backfill) End() error {
	if err := b.flush(); err != nil {
		return err
	}
	for _, part := range b.parts {
		if err := part.wait(0); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backfill) part(tenant domain.TenantID) *backfillPart {
	return b.parts[b.store.Info().PartitionOf(tenant)]
}

// newID returns a UUIDv7 of the time, from the seed.
func (b *Backfill) newID() string {
	var id uuid.UUID
	b.random.Read(id[:]) // never fails
	millis := uint64(b.at.UnixMilli())
	for i := range 6 {
		id[i] = byte(millis >> (8 * (5 - i)))
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id.String()
}

func (b *Backfill) newBuilder() *commitBuilder {
	builder := newCommitBuilder(b.store.Info().source(), b.at)
	builder.newID = b.newID
	return builder
}

// flush sends what was decided at this time.
func (b *Backfill) flush() error {
	for _, part := range b.parts {
		if err := part.commit(b); err != nil {
			return err
		}
	}
	return nil
}

// commit sends what was decided, names first, and waits while too many commits are in flight.
func (p *backfillPart) commit(b *Backfill) error {
	builder := p.builder
	p.builder = nil
	if builder == nil || builder.count == 0 {
		return nil
	}
	if len(p.names) > 0 {
		if err := p.directory.Add(p.names); err != nil {
			return err
		}
		p.names = nil
	}
	if err := p.wait(p.journal.InFlightMax() - 1); err != nil {
		return err
	}
	sent, next := builder.seal(p.state, p.state.Epoch, p.directory.Seq())
	p.state.moveTo(sent, next, builder.at)
	sent.send(p.journal)
	p.inFlight = append(p.inFlight, sent)
	return nil
}

// wait returns when at most so many commits are in flight.
func (p *backfillPart) wait(most int) error {
	for len(p.inFlight) > most {
		if err := <-p.inFlight[0].outcome; err != nil {
			return fmt.Errorf("backfill: %w", err)
		}
		p.inFlight = p.inFlight[1:]
	}
	return nil
}
