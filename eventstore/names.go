package eventstore

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/domain/index"
)

// nameTable is the names of a Directory, packed: a process may hold some millions. A name is a few bytes in a chunk of
// memory without pointers, found through two indexes.
type nameTable struct {
	chunks       [][]byte
	byText       index.Index // by tenant, kind and text: the name that is valid now
	byPseudonym  index.Index // by tenant and pseudonym
	tenants      []domain.TenantID
	tenantNumber map[domain.TenantID]uint32
	seed         maphash.Seed // people choose their names: they must not be able to choose names that collide
}

// nameChunk is how many bytes a chunk has. The number of a name is the chunk's number and the place in it, as one.
const nameChunk = 1 << 16

// packedName is a name as it lies in a chunk: the number of its tenant (4 bytes), kind, pseudonym and text, each with its length
// before it as a uvarint, and the sequence of its record as a uvarint.
type packedName []byte

func newNameTable() nameTable {
	return nameTable{tenantNumber: map[domain.TenantID]uint32{}, seed: maphash.MakeSeed()}
}

// put keeps a name that the record at seq holds.
func (t *nameTable) put(n Name, seq uint64) error {
	tenant, ok := t.tenantNumber[n.Tenant]
	if !ok {
		tenant = uint32(len(t.tenants))
		t.tenants = append(t.tenants, n.Tenant)
		t.tenantNumber[n.Tenant] = tenant
	}
	packed := binary.LittleEndian.AppendUint32(nil, tenant)
	for _, text := range []string{string(n.Kind), string(n.Pseudonym), n.Text} {
		packed = append(binary.AppendUvarint(packed, uint64(len(text))), text...)
	}
	packed = binary.AppendUvarint(packed, seq)
	if len(packed) > nameChunk {
		return fmt.Errorf("name %s of %s has %d bytes, more than %d", n.Pseudonym, n.Tenant, len(n.Text), nameChunk)
	}
	last := len(t.chunks) - 1
	if last < 0 || len(t.chunks[last])+len(packed) > nameChunk {
		t.chunks, last = append(t.chunks, nil), last+1
	}
	entry := uint32(last*nameChunk + len(t.chunks[last]))
	t.chunks[last] = append(t.chunks[last], packed...)

	// A name that is put again replaces the one before.
	hash := t.textHash(n.Tenant, n.Kind, n.Text)
	if old, ok := t.findText(hash, tenant, n.Kind, n.Text); ok {
		t.byText.Remove(hash, old)
	}
	t.byText.Add(hash, entry)
	hash = t.pseudonymHash(n.Tenant, n.Pseudonym)
	if old, ok := t.findPseudonym(hash, tenant, n.Pseudonym); ok {
		t.byPseudonym.Remove(hash, old)
		if _, kind, _, text := t.at(old).fields(); string(kind) == string(n.Kind) && string(text) == n.Text {
			clear(text) // of one name there is one copy
		}
	}
	t.byPseudonym.Add(hash, entry)
	return nil
}

// remove forgets a name, and overwrites it. It returns its kind and the record that holds it; false when it is not known.
func (t *nameTable) remove(tenant domain.TenantID, p domain.Pseudonym) (NameKind, uint64, bool) {
	number, ok := t.tenantNumber[tenant]
	if !ok {
		return "", 0, false
	}
	hash := t.pseudonymHash(tenant, p)
	entry, ok := t.findPseudonym(hash, number, p)
	if !ok {
		return "", 0, false
	}
	t.byPseudonym.Remove(hash, entry)
	n := t.at(entry)
	_, k, _, text := n.fields()
	kind, seq := NameKind(k), n.seq()
	hash = t.textHash(tenant, kind, string(text))
	// Somebody else may have the text by now.
	if now, ok := t.findText(hash, number, kind, string(text)); ok && now == entry {
		t.byText.Remove(hash, entry)
	}
	clear(text)
	return kind, seq, true
}

// recordOf returns the record that holds a name; false when it is not known.
func (t *nameTable) recordOf(tenant domain.TenantID, p domain.Pseudonym) (uint64, bool) {
	number, ok := t.tenantNumber[tenant]
	if !ok {
		return 0, false
	}
	entry, ok := t.findPseudonym(t.pseudonymHash(tenant, p), number, p)
	if !ok {
		return 0, false
	}
	return t.at(entry).seq(), true
}

// text returns the clear text of a pseudonym; empty when it is not known.
func (t *nameTable) text(tenant domain.TenantID, p domain.Pseudonym) string {
	number, ok := t.tenantNumber[tenant]
	if !ok {
		return ""
	}
	entry, ok := t.findPseudonym(t.pseudonymHash(tenant, p), number, p)
	if !ok {
		return ""
	}
	_, _, _, text := t.at(entry).fields()
	return string(text)
}

// pseudonym returns what stands for a text; empty when nothing does.
func (t *nameTable) pseudonym(tenant domain.TenantID, kind NameKind, text string) domain.Pseudonym {
	number, ok := t.tenantNumber[tenant]
	if !ok {
		return ""
	}
	entry, ok := t.findText(t.textHash(tenant, kind, text), number, kind, text)
	if !ok {
		return ""
	}
	_, _, p, _ := t.at(entry).fields()
	return domain.Pseudonym(p)
}

func (t *nameTable) findText(hash, tenant uint32, kind NameKind, text string) (uint32, bool) {
	return t.byText.Find(hash, func(entry uint32) bool {
		of, k, _, found := t.at(entry).fields()
		return of == tenant && string(k) == string(kind) && string(found) == text
	})
}

func (t *nameTable) findPseudonym(hash, tenant uint32, p domain.Pseudonym) (uint32, bool) {
	return t.byPseudonym.Find(hash, func(entry uint32) bool {
		of, _, found, _ := t.at(entry).fields()
		return of == tenant && string(found) == string(p)
	})
}

func (t *nameTable) textHash(tenant domain.TenantID, kind NameKind, text string) uint32 {
	return uint32(maphash.Comparable(t.seed, [3]string{string(tenant), string(kind), text}))
}

func (t *nameTable) pseudonymHash(tenant domain.TenantID, p domain.Pseudonym) uint32 {
	return uint32(maphash.Comparable(t.seed, [2]string{string(tenant), string(p)}))
}

func (t *nameTable) at(entry uint32) packedName {
	return packedName(t.chunks[entry/nameChunk][entry%nameChunk:])
}

func (n packedName) fields() (tenant uint32, kind, pseudonym, text []byte) {
	tenant, kind, pseudonym, text, _ = n.split()
	return tenant, kind, pseudonym, text
}

// seq is the record that holds the name.
func (n packedName) seq() uint64 {
	_, _, _, _, rest := n.split()
	seq, _ := binary.Uvarint(rest)
	return seq
}

func (n packedName) split() (tenant uint32, kind, pseudonym, text, rest []byte) {
	tenant, rest = binary.LittleEndian.Uint32(n), n[4:]
	next := func() (field []byte) {
		length, size := binary.Uvarint(rest)
		field, rest = rest[size:size+int(length)], rest[size+int(length):]
		return field
	}
	kind, pseudonym, text = next(), next(), next()
	return tenant, kind, pseudonym, text, rest
}
