package eventstore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/coditect-ai/license-ledger/domain"
)

// The file of a snapshot:
//
//	file    = header round…
//	header  = magic, fingerprint of the state's types (32 bytes), ledger id (36), partition (2, big endian)
//	round   = tenant… trailer
//	tenant  = 'T', length of the rest (8, big endian), then what tenantState.appendRecord says
//	trailer = 'E', length of the marks (8, big endian), snapshotMarks as JSON, SHA-256 of the round so far (32)
const (
	snapshotMagic = "LEDGERS1"
	recordTenant  = 'T'
	recordEnd     = 'E'
	recordHeadLen = 9

	ledgerAt          = len(snapshotMagic) + sha256.Size
	snapshotHeaderLen = ledgerAt + 36 + 2
)

// snapshotMarks are what a trailer says. Epoch, EpochStart, Time and Names are those at Begin.
type snapshotMarks struct {
	Begin      Checkpoint `json:"begin"`
	BeginID    string     `json:"begin_id"` // of the commit at Begin
	End        Checkpoint `json:"end"`
	Epoch      uint64     `json:"epoch"`
	EpochStart time.Time  `json:"epoch_start"`
	Time       time.Time  `json:"time"`
	Names      uint64     `json:"names"` // State.names
}

func snapshotHeader(info LedgerInfo, p Partition) []byte {
	header := append([]byte(snapshotMagic), stateFingerprint[:]...)
	header = fmt.Appendf(header, "%36s", info.ID)
	return binary.BigEndian.AppendUint16(header, uint16(p))
}

// uselessSnapshot says why a snapshot is ignored.
type uselessSnapshot string

func (u uselessSnapshot) Error() string { return string(u) }

func checkSnapshotHeader(found, want []byte) error {
	switch {
	case !bytes.Equal(found[:len(snapshotMagic)], want[:len(snapshotMagic)]):
		return uselessSnapshot("it is no snapshot")
	case !bytes.Equal(found[ledgerAt:], want[ledgerAt:]):
		return fmt.Errorf("it is of partition %d of the ledger %s, but the journal here is of the ledger %s: one of them was swapped; "+
			"restore the right journal, or, if this journal is the right one, delete the snapshot",
			binary.BigEndian.Uint16(found[ledgerAt+36:]), found[ledgerAt:ledgerAt+36], want[ledgerAt:ledgerAt+36])
	case !bytes.Equal(found, want):
		return uselessSnapshot("another version of the program wrote it")
	}
	return nil
}

// readSnapshot returns the state as of the last round that is whole, and where that round ends. Errors: uselessSnapshot;
// any other is for a person.
func readSnapshot(file *os.File, header []byte) (*State, int64, error) {
	tenants, marks, size, err := scanSnapshot(file, header)
	if err != nil {
		return nil, 0, err
	}
	state := NewState()
	state.Checkpoint, state.last, state.seen = marks.Begin, Place{marks.Begin.Seq, marks.BeginID}, marks.End
	state.Epoch, state.EpochStart, state.Time, state.names = marks.Epoch, marks.EpochStart, marks.Time, marks.Names
	var record []byte
	for id, at := range tenants {
		record = append(record[:0], make([]byte, at.length)...)
		if _, err := file.ReadAt(record, at.offset); err != nil {
			return nil, 0, err
		}
		t, err := decodeTenantState(record)
		if err != nil || t.ID != id {
			return nil, 0, uselessSnapshot(fmt.Sprintf("tenant %s cannot be read: %v", id, err))
		}
		t.snapshotLen = at.length + recordHeadLen
		state.restore(t)
	}
	return state, size, nil
}

// DecodeSnapshot reads and decodes the snapshot in a file, one tenant after the other, and keeps nothing: less than a start
// from it can do. It returns the commit after which the journal would be read, and the size.
func DecodeSnapshot(path string) (Checkpoint, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	defer file.Close()
	header := make([]byte, snapshotHeaderLen)
	if _, err := file.ReadAt(header, 0); err != nil {
		return Checkpoint{}, 0, uselessSnapshot("it is cut off")
	}
	tenants, marks, size, err := scanSnapshot(file, header)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	var record []byte
	for _, at := range tenants {
		record = append(record[:0], make([]byte, at.length)...)
		if _, err := file.ReadAt(record, at.offset); err != nil {
			return Checkpoint{}, 0, err
		}
		if _, err := decodeTenantState(record); err != nil {
			return Checkpoint{}, 0, err
		}
	}
	return marks.Begin, size, nil
}

// span is where a record's content lies in a file.
type span struct{ offset, length int64 }

// scanSnapshot checks the rounds and returns, for each tenant, its last record in those that are whole.
func scanSnapshot(file *os.File, header []byte) (tenants map[domain.TenantID]span, marks snapshotMarks, size int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return nil, marks, 0, err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(file, 0, info.Size()), 1<<20)
	found := make([]byte, snapshotHeaderLen)
	if _, err := io.ReadFull(in, found); err != nil {
		return nil, marks, 0, uselessSnapshot("it is cut off")
	}
	if err := checkSnapshotHeader(found, header); err != nil {
		return nil, marks, 0, err
	}
	tenants = map[domain.TenantID]span{}
	for at := int64(snapshotHeaderLen); ; at = size {
		round, m, end, err := scanRound(in, at)
		if err != nil {
			break // the end, or a round that was not finished
		}
		for id, at := range round {
			tenants[id] = at
		}
		marks, size = m, end
	}
	if size == 0 {
		return nil, marks, 0, uselessSnapshot("not one round of it is whole")
	}
	return tenants, marks, size, nil
}

// errRoundBroken: a round is not whole, or not as it was written.
var errRoundBroken = errors.New("round broken")

func scanRound(in *bufio.Reader, at int64) (tenants map[domain.TenantID]span, marks snapshotMarks, end int64, err error) {
	sum := sha256.New()
	hashed := io.TeeReader(in, sum)
	tenants = map[domain.TenantID]span{}
	for {
		var head [recordHeadLen]byte
		if _, err := io.ReadFull(hashed, head[:]); err != nil {
			return nil, marks, 0, err
		}
		at += recordHeadLen
		length := int64(binary.BigEndian.Uint64(head[1:]))
		switch {
		case head[0] == recordTenant && length > 0:
			var idLen [1]byte
			if _, err := io.ReadFull(hashed, idLen[:]); err != nil {
				return nil, marks, 0, err
			}
			id := make([]byte, idLen[0])
			if _, err := io.ReadFull(hashed, id); err != nil {
				return nil, marks, 0, err
			}
			if _, err := io.CopyN(io.Discard, hashed, length-1-int64(len(id))); err != nil {
				return nil, marks, 0, err
			}
			tenants[domain.TenantID(id)] = span{at, length}
			at += length
		case head[0] == recordEnd && 0 < length && length < 1<<16:
			text := make([]byte, length)
			if _, err := io.ReadFull(hashed, text); err != nil {
				return nil, marks, 0, err
			}
			var want [sha256.Size]byte
			got := sum.Sum(nil)
			if _, err := io.ReadFull(in, want[:]); err != nil {
				return nil, marks, 0, err
			}
			if !bytes.Equal(got, want[:]) {
				return nil, marks, 0, errRoundBroken
			}
			if err := json.Unmarshal(text, &marks); err != nil {
				return nil, marks, 0, err
			}
			return tenants, marks, at + length + sha256.Size, nil
		default:
			return nil, marks, 0, errRoundBroken
		}
	}
}

// snapshotRound is a round that is being written.
type snapshotRound struct {
	marks snapshotMarks
	left  []*tenantState // still to be encoded
	piece []byte         // encoded, not written yet
	last  bool           // behind this piece comes the trailer

	file   *os.File
	fresh  bool  // file is a new one, to take the place of the old one
	offset int64 // where the next piece belongs
	sum    hash.Hash
}

func (r *snapshotRound) init(header []byte) {
	r.sum = sha256.New()
	r.piece = make([]byte, 0, snapshotStep+snapshotStep/4)
	if r.fresh {
		r.piece = append(r.piece, header...)
	}
}

// write writes the piece, and behind the last one the trailer. After it the file is what the next load reads.
func (r *snapshotRound) write(path string) error {
	hashed := r.piece
	if r.fresh && r.offset == 0 {
		hashed = hashed[snapshotHeaderLen:]
	}
	r.sum.Write(hashed)
	if r.last {
		marks, err := json.Marshal(r.marks)
		if err != nil {
			return err
		}
		trailer := append(appendRecordHead(nil, recordEnd, len(marks)), marks...)
		r.sum.Write(trailer)
		r.piece = r.sum.Sum(append(r.piece, trailer...))
	}
	if _, err := r.file.WriteAt(r.piece, r.offset); err != nil {
		return err
	}
	r.offset += int64(len(r.piece))
	if !r.last {
		return nil
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	if !r.fresh {
		return nil
	}
	if err := os.Rename(r.file.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func appendRecordHead(b []byte, kind byte, length int) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), uint64(length))
}

// appendRecord appends a tenant as a record: its id behind a byte with its length, the head of its chain (32 bytes), the
// recorded answers as JSON behind their length as a uvarint, and the tenant as domain says.
func (t *tenantState) appendRecord(b []byte) []byte {
	start := len(b)
	b = appendRecordHead(b, recordTenant, 0)
	b = append(append(b, byte(len(t.ID))), t.ID...)
	b = append(b, t.head[:]...)
	answers := t.answers.encode()
	b = append(binary.AppendUvarint(b, uint64(len(answers))), answers...)
	b, err := t.Tenant.AppendBinary(b)
	if err != nil {
		panic(err) // it returns none
	}
	binary.BigEndian.PutUint64(b[start+1:], uint64(len(b)-start-recordHeadLen))
	return b
}

// decodeTenantState reads the content of a record.
func decodeTenantState(b []byte) (*tenantState, error) {
	cutOff := errors.New("cut off")
	if len(b) < 1 || len(b) < 1+int(b[0])+len(Hash{}) {
		return nil, cutOff
	}
	id, b := b[1:1+int(b[0])], b[1+int(b[0]):]
	t := &tenantState{Tenant: domain.NewTenant(domain.TenantID(id)), head: Hash(b)}
	b = b[len(Hash{}):]
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return nil, cutOff
	}
	if err := t.answers.decode(b[n : n+int(length)]); err != nil {
		return nil, err
	}
	return t, t.UnmarshalBinary(b[n+int(length):])
}

// storedAnswer is a recorded answer in a snapshot.
type storedAnswer struct {
	Key         string            `json:"k"`
	Fingerprint string            `json:"f"`
	At          time.Time         `json:"t"`
	Known       bool              `json:"y,omitzero"`
	Answer      domain.Answer     `json:"a,omitzero"`
	Rejection   *domain.Rejection `json:"r,omitzero"`
}

// encode returns the answers as JSON, oldest first; nothing when there are none.
func (r *recordedAnswers) encode() []byte {
	if len(r.order) == 0 {
		return nil
	}
	all := make([]storedAnswer, len(r.order))
	for i, key := range r.order {
		a := r.byKey[key]
		all[i] = storedAnswer{key, a.fingerprint, a.at, a.known, a.answer, a.rejection}
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // texts, numbers and times
	}
	return text
}

func (r *recordedAnswers) decode(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var all []storedAnswer
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("recorded answers: %w", err)
	}
	for _, a := range all {
		r.put(Idempotency{a.Key, a.Fingerprint}, recordedAnswer{at: a.At, known: a.Known, answer: a.Answer, rejection: a.Rejection})
	}
	return nil
}

// stateFingerprint is of the shape of the state. When a type of it changes, so does this, and older snapshots are
// ignored.
var stateFingerprint = sha256.Sum256([]byte(shapeOf(reflect.TypeFor[tenantState](), map[reflect.Type]bool{})))

// shapeOf describes a type and, once each, the types of this module that it is made of.
func shapeOf(t reflect.Type, seen map[reflect.Type]bool) string {
	text := t.String()
	if seen[t] || (t.PkgPath() != "" && !bytes.Contains([]byte(t.PkgPath()), []byte("license-ledger"))) {
		return text
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			text += fmt.Sprintf("{%s %s %s}", f.Name, f.Tag, shapeOf(f.Type, seen))
		}
	case reflect.Map:
		text += shapeOf(t.Key(), seen) + shapeOf(t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		text += shapeOf(t.Elem(), seen)
	}
	return text
}
