package eventstore

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"sync"

	"github.com/go-json-experiment/json"

	"github.com/coditect-ai/license-ledger/domain"
)

// NameKind is what a pseudonym stands for.
type NameKind string

// The kinds of names.
const (
	UserName    NameKind = "user"
	MachineName NameKind = "machine"
	ProcessName NameKind = "process"
)

// Name is one entry of the directory.
type Name struct {
	Tenant    domain.TenantID  `json:"tenant"`
	Pseudonym domain.Pseudonym `json:"pseudonym"`
	Kind      NameKind         `json:"kind"`
	Text      string           `json:"text"`
}

// newPseudonym returns a random one: the first letter of the kind, and 80 bits.
func newPseudonym(kind NameKind) domain.Pseudonym {
	var b [pseudonymBytes]byte
	rand.Read(b[:]) // never fails
	return pseudonymOf(kind, b)
}

const pseudonymBytes = 10

func pseudonymOf(kind NameKind, random [pseudonymBytes]byte) domain.Pseudonym {
	return domain.Pseudonym(string(kind[:1]) + "_" + pseudonymEncoding.EncodeToString(random[:]))
}

// pseudonymEncoding is Crockford's base 32, in lower case. Pseudonyms are short because a process holds millions.
var pseudonymEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz")

// DecodeNames returns the entries of one record of a directory log.
func DecodeNames(r Record) ([]Name, error) {
	var names []Name
	if err := json.Unmarshal(r.Body, &names); err != nil {
		return nil, fmt.Errorf("directory record: %w", err)
	}
	return names, nil
}

// Directory is the names of a partition, in memory. The Writer of the partition adds to it, before the commit that needs
// the name; everybody may read. Like commits, names are stored in batches, each with the sequence it expects: so two
// writers can not give one person two pseudonyms. It is safe for concurrent use.
type Directory struct {
	log Log

	mu    sync.RWMutex
	last  Place
	names nameTable
}

// NewDirectory returns the directory of log, with nothing read yet.
func NewDirectory(log Log) *Directory {
	return &Directory{log: log, names: newNameTable()}
}

// Load reads what was added since, by this process or another.
func (d *Directory) Load(ctx context.Context) error {
	last, err := d.log.Last(ctx)
	if err != nil {
		return fmt.Errorf("load directory: %w", err)
	}
	return d.loadTo(ctx, last)
}

// loadTo reads up to the record last.
func (d *Directory) loadTo(ctx context.Context, last uint64) error {
	seq := d.Seq()
	if seq >= last {
		return nil
	}
	err := complete{d.log, last}.Read(ctx, seq, func(seq uint64, r Record) error {
		names, err := DecodeNames(r)
		if err != nil {
			return fmt.Errorf("record %d: %w", seq, err)
		}
		if err := d.put(Place{seq, r.ID}, names); err != nil {
			return fmt.Errorf("record %d: %w", seq, err)
		}
		return nil
	})
	if errors.Is(err, errReadEnough) {
		return nil
	}
	return fmt.Errorf("load directory: %w", err)
}

// Seq returns the sequence of the last record that was read or added.
func (d *Directory) Seq() uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.last.Seq
}

// Text returns the clear text of a pseudonym; empty when it is not known (any more).
func (d *Directory) Text(tenant domain.TenantID, p domain.Pseudonym) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.names.text(tenant, p)
}

// Pseudonym returns what stands for a text; empty when nothing does yet.
func (d *Directory) Pseudonym(tenant domain.TenantID, kind NameKind, text string) domain.Pseudonym {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.names.pseudonym(tenant, kind, text)
}

// Add stores names durably. Errors: ErrConflict when another writer added some first: Load, then look again.
func (d *Directory) Add(names []Name) error {
	body, err := json.Marshal(names)
	if err != nil {
		return err
	}
	d.mu.RLock()
	after := d.last
	d.mu.RUnlock()
	r := Record{ID: newID(), Header: map[string]string{headerContentType: "application/json"}, Body: body}
	if err := <-d.log.Append(after, r); err != nil {
		return fmt.Errorf("add to directory: %w", err)
	}
	return d.put(Place{after.Seq + 1, r.ID}, names)
}

func (d *Directory) put(at Place, names []Name) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Nothing deletes a record yet. A server with a damaged file leaves the record out and says nothing, so whoever comes to
	// delete one, to forget a person, has to leave word of it in the log.
	if at.Seq != d.last.Seq+1 {
		return fmt.Errorf("%w: after record %d of the directory comes %d: names were lost; restore its stream's files from a backup", ErrChainBroken, d.last.Seq, at.Seq)
	}
	for _, n := range names {
		if err := d.names.put(n); err != nil {
			return err
		}
	}
	d.last = at
	return nil
}
