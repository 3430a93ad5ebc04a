package eventstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"maps"
	"slices"
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

// Nameless returns the pseudonym of somebody of whom no name is known, only what tells it apart from others: the same for the same texts.
func Nameless(kind NameKind, texts ...string) domain.Pseudonym {
	h := sha256.New()
	for _, text := range texts {
		fmt.Fprintf(h, "%d:%s", len(text), text)
	}
	return pseudonymOf(kind, [pseudonymBytes]byte(h.Sum(nil)[:pseudonymBytes]))
}

const pseudonymBytes = 10

func pseudonymOf(kind NameKind, random [pseudonymBytes]byte) domain.Pseudonym {
	return domain.Pseudonym(string(kind[:1]) + "_" + pseudonymEncoding.EncodeToString(random[:]))
}

// pseudonymEncoding is Crockford's base 32, in lower case. Pseudonyms are short because a process holds millions.
var pseudonymEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz")

// DirectoryRecord is what one record of a directory log says.
type DirectoryRecord struct {
	Names []Name `json:"names"`
	// Forgotten is whose names are deleted with this record. They are in none of it any more.
	Forgotten []Forgotten `json:"forgotten"`
	// Replaces is the records that this one takes the place of, oldest first: Names is what is left of theirs. They are erased once
	// this one is stored. Where a record is missing that none replaces, names were lost.
	Replaces []uint64 `json:"replaces"`
}

// Forgotten is a name that was deleted, and what the event will say that tells of it: should the process die before that is
// stored, the next owner stores it.
type Forgotten struct {
	Tenant      domain.TenantID  `json:"tenant"`
	Pseudonym   domain.Pseudonym `json:"pseudonym"`
	Kind        NameKind         `json:"kind"`
	Reason      string           `json:"reason,omitzero"`
	Actor       string           `json:"actor"`
	Command     string           `json:"command"`
	Traceparent string           `json:"traceparent,omitzero"`
	// Record is the one that first said so, where that was replaced; 0: this one.
	Record uint64 `json:"record,omitzero"`
}

// DecodeDirectory reads a record of a directory log: a list of names, or an object where names are deleted.
func DecodeDirectory(r Record) (DirectoryRecord, error) {
	var d DirectoryRecord
	var err error
	if len(r.Body) > 0 && r.Body[0] == '{' {
		err = json.Unmarshal(r.Body, &d)
	} else {
		err = json.Unmarshal(r.Body, &d.Names)
	}
	if err != nil {
		return DirectoryRecord{}, fmt.Errorf("directory record: %w", err)
	}
	return d, nil
}

// Directory is the names of a partition, in memory. The Writer of the partition adds to it, before the commit that needs
// the name, and deletes from it; everybody may read. Like commits, names are stored in batches, each with the sequence it
// expects: so two writers can not give one person two pseudonyms. It is safe for concurrent use.
//
// A name is deleted in two steps: a record is added that says so and holds what is left of the record that held the name; then that
// one is erased. Whatever dies in between, the log says what is to be erased.
type Directory struct {
	log Log

	mu    sync.RWMutex
	last  Place
	names nameTable

	forgotten []Forgotten         // those that were read since the last call of dropForgotten
	holes     map[uint64]struct{} // records that are missing, and that none replaces so far
	erased    map[uint64]struct{} // records that are known to be erased
	owed      map[uint64]struct{} // records that are replaced and perhaps not erased yet
	settled   chan struct{}       // closed and replaced when owed becomes less
	owing     chan struct{}       // holds one when owed becomes more
}

// NewDirectory returns the directory of log, with nothing read yet.
func NewDirectory(log Log) *Directory {
	return &Directory{
		log: log, names: newNameTable(), holes: map[uint64]struct{}{}, erased: map[uint64]struct{}{}, owed: map[uint64]struct{}{},
		settled: make(chan struct{}), owing: make(chan struct{}, 1),
	}
}

// Load reads what was added since, by this process or another. Errors: ErrChainBroken when names were lost.
func (d *Directory) Load(ctx context.Context) error {
	for {
		last, err := d.log.Last(ctx)
		if err != nil {
			return fmt.Errorf("load directory: %w", err)
		}
		before := d.Seq()
		if err := d.loadTo(ctx, last); err != nil {
			return err
		}
		lost := d.unexplained()
		if lost == 0 {
			return nil
		}
		// It may have been replaced while this was reading; then the record that says so stands behind last.
		if before == last {
			return fmt.Errorf("load directory: %w: record %d of the directory is missing and none replaces it: names were lost; restore its stream's files from a backup", ErrChainBroken, lost)
		}
	}
}

// loadTo reads up to the record last.
func (d *Directory) loadTo(ctx context.Context, last uint64) error {
	seq := d.Seq()
	if seq >= last {
		return nil
	}
	if err := ReadUpTo(ctx, d.log, seq, last, d.read); err != nil {
		return fmt.Errorf("load directory: %w", err)
	}
	return nil
}

// follow reads what others add, until ctx ends or the log fails.
func (d *Directory) follow(ctx context.Context) error { return d.log.Read(ctx, d.Seq(), d.read) }

func (d *Directory) read(seq uint64, r Record) error {
	said, err := DecodeDirectory(r)
	if err == nil {
		err = d.put(Place{seq, r.ID}, said)
	}
	if err != nil {
		return fmt.Errorf("record %d: %w", seq, err)
	}
	return nil
}

// unexplained returns a record that is missing and that none replaces so far; 0 when there is none.
func (d *Directory) unexplained() uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for seq := range d.holes {
		return seq
	}
	return 0
}

// Seq returns the sequence of the last record that was read or added.
func (d *Directory) Seq() uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.last.Seq
}

// Text returns the clear text of a pseudonym; empty when it was forgotten.
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
	return d.append(body, DirectoryRecord{Names: names})
}

// Forget deletes a name durably, of which f says what there is to say. What held it is overwritten when Erase has been called.
// A name that is not known is deleted already. Errors: those of Add.
func (d *Directory) Forget(ctx context.Context, f Forgotten) error {
	d.mu.RLock()
	held, known := d.names.recordOf(f.Tenant, f.Pseudonym)
	d.mu.RUnlock()
	if !known {
		return nil
	}
	r, err := d.log.Get(ctx, held)
	if err != nil {
		return fmt.Errorf("read what else record %d of the directory holds: %w", held, err)
	}
	said, err := DecodeDirectory(r)
	if err != nil {
		return fmt.Errorf("record %d: %w", held, err)
	}
	left := DirectoryRecord{Names: []Name{}, Forgotten: []Forgotten{f}, Replaces: append(said.Replaces, held)}
	for _, n := range said.Names {
		if n.Tenant != f.Tenant || n.Pseudonym != f.Pseudonym {
			left.Names = append(left.Names, n)
		}
	}
	for _, earlier := range said.Forgotten {
		earlier.Record = cmp.Or(earlier.Record, held)
		left.Forgotten = append(left.Forgotten, earlier)
	}
	body, err := json.Marshal(left)
	if err != nil {
		return err
	}
	return d.append(body, left)
}

func (d *Directory) append(body []byte, said DirectoryRecord) error {
	d.mu.RLock()
	after := d.last
	d.mu.RUnlock()
	r := Record{ID: newID(), Header: map[string]string{headerContentType: "application/json"}, Body: body}
	if err := <-d.log.Append(after, r); err != nil {
		return fmt.Errorf("add to directory: %w", err)
	}
	return d.put(Place{after.Seq + 1, r.ID}, said)
}

func (d *Directory) put(at Place, said DirectoryRecord) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at.Seq <= d.last.Seq {
		return fmt.Errorf("%w: after record %d of the directory comes %d", ErrChainBroken, d.last.Seq, at.Seq)
	}
	// A server with a damaged file leaves the record out and says nothing: only the log itself can tell that it was erased.
	for seq := d.last.Seq + 1; seq < at.Seq; seq++ {
		d.holes[seq] = struct{}{}
	}
	for _, n := range said.Names {
		if err := d.names.put(n, at.Seq); err != nil {
			return err
		}
	}
	for _, f := range said.Forgotten {
		d.names.remove(f.Tenant, f.Pseudonym)
		f.Record = cmp.Or(f.Record, at.Seq)
		if !slices.Contains(d.forgotten, f) {
			d.forgotten = append(d.forgotten, f)
		}
	}
	for _, seq := range said.Replaces {
		if _, missing := d.holes[seq]; missing {
			delete(d.holes, seq)
			d.erased[seq] = struct{}{}
		} else if _, gone := d.erased[seq]; !gone {
			d.owed[seq] = struct{}{}
		}
	}
	if len(d.owed) > 0 {
		select {
		case d.owing <- struct{}{}:
		default:
		}
	}
	d.last = at
	return nil
}

// forgottenAfter returns whose names were deleted by records behind after, oldest first.
func (d *Directory) forgottenAfter(after uint64) []Forgotten {
	d.mu.RLock()
	defer d.mu.RUnlock()
	newer := slices.DeleteFunc(slices.Clone(d.forgotten), func(f Forgotten) bool { return f.Record <= after })
	slices.SortFunc(newer, func(a, b Forgotten) int { return cmp.Compare(a.Record, b.Record) })
	return newer
}

// dropForgotten drops what forgottenAfter would return: their events are stored.
func (d *Directory) dropForgotten() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgotten = nil
}

// Erase overwrites what was replaced. It is for the owner of the partition: call it again after an error.
func (d *Directory) Erase(ctx context.Context) error {
	d.mu.RLock()
	owed := slices.Sorted(maps.Keys(d.owed))
	d.mu.RUnlock()
	for _, seq := range owed {
		if err := d.log.Erase(ctx, seq); err != nil {
			return err
		}
		d.mu.Lock()
		delete(d.owed, seq)
		d.erased[seq] = struct{}{}
		close(d.settled)
		d.settled = make(chan struct{})
		d.mu.Unlock()
	}
	return nil
}

// Owed returns how many records are still to be overwritten: one for each name that was deleted and may be on the disk still.
func (d *Directory) Owed() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.owed)
}

// AwaitErased returns nil once nothing is left to be overwritten. Errors: that of ctx.
func (d *Directory) AwaitErased(ctx context.Context) error {
	for {
		d.mu.RLock()
		left, settled := len(d.owed), d.settled
		d.mu.RUnlock()
		if left == 0 {
			return nil
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
