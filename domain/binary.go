package domain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// AppendBinary appends all that the tenant is to b, so that UnmarshalBinary makes the same tenant of it: for a cache that
// saves a replay, never for a record. What is remembered of refusals is left out: one may be recorded again sooner. It implements encoding.BinaryAppender and returns no error.
//
// Shape: numbers are varints, texts have their length before them, times are Unix milliseconds.
func (t *Tenant) AppendBinary(b []byte) ([]byte, error) {
	b = appendText(b, t.ID)
	b = appendText(b, t.Name)
	b = appendText(b, t.Status)
	b = appendTime(b, t.CreatedAt)
	b = binary.AppendUvarint(b, t.Version)
	b = binary.AppendUvarint(b, uint64(len(t.licenses)))
	for _, l := range t.licenses {
		b = l.appendBinary(b)
	}
	b = binary.AppendUvarint(b, uint64(len(t.members)))
	for _, m := range t.members {
		b = appendText(b, m.User)
		b = appendText(b, m.Role)
		b = appendBool(b, m.Removed)
	}
	b = binary.AppendUvarint(b, uint64(len(t.tenantKeys)))
	for _, k := range t.tenantKeys {
		b = appendText(b, k.ID)
		b = appendText(b, k.Hash)
		b = appendText(b, k.Name)
		b = appendText(b, k.Role)
		b = appendText(b, k.Member)
		b = appendTime(b, k.CreatedAt)
		b = appendTime(b, k.Until)
		b = appendBool(b, k.Revoked)
	}
	return b, nil
}

func (l *License) appendBinary(b []byte) []byte {
	b = appendText(b, l.ID)
	b = appendText(b, l.Product)
	b = binary.AppendVarint(b, int64(l.Seats))
	b = l.Policy.appendBinary(b)
	b = appendText(b, l.Status)
	b = appendTime(b, l.IssuedAt)
	b = appendText(b, l.Key.ID)
	b = appendText(b, l.Key.Hash)
	b = appendText(b, l.OldKey.ID)
	b = appendText(b, l.OldKey.Hash)
	b = appendTime(b, l.OldKeyUntil)
	b = binary.AppendUvarint(b, l.evictFrom)
	b = appendText(b, l.ReceivedBy)
	b = binary.AppendUvarint(b, l.fences)
	b = binary.AppendVarint(b, int64(l.Arriving))
	b = binary.AppendVarint(b, int64(l.seatsCome))
	b = appendTime(b, l.arrivedAt)
	b = l.Transfer.appendBinary(b)
	// Those in due are the active ones. The ended ones keep their order: the first is the next to be forgotten.
	for _, leases := range [][]leaseNumber{l.leases.due.items, l.leases.ended} {
		b = binary.AppendUvarint(b, uint64(len(leases)))
		for _, n := range leases {
			b = l.leases.record(n).appendBinary(b)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(l.queue)))
	for _, w := range l.queue {
		b = appendText(b, w.holder.User)
		b = appendText(b, w.holder.Machine)
		b = appendText(b, w.holder.Process)
		b = binary.AppendVarint(b, int64(w.priority))
	}
	// How many leases each has is counted again; since when is not to be seen in the leases.
	for _, tallies := range []map[Pseudonym]tally{l.users, l.machines} {
		b = binary.AppendUvarint(b, uint64(len(tallies)))
		for p, t := range tallies {
			b = appendText(b, p)
			b = binary.AppendUvarint(b, t.since)
		}
	}
	return b
}

func (t *Transfer) appendBinary(b []byte) []byte {
	if b = appendBool(b, t != nil); t == nil {
		return b
	}
	b = appendText(b, t.ID)
	b = appendText(b, t.To)
	b = appendText(b, t.As)
	b = appendText(b, t.Key.ID)
	b = appendText(b, t.Key.Hash)
	b = appendText(b, t.State)
	b = appendTime(b, t.At)
	b = binary.AppendVarint(b, int64(t.Kept))
	b = binary.AppendVarint(b, int64(t.InUse))
	b = binary.AppendUvarint(b, t.Fences)
	b = appendTime(b, t.OldKeyUntil)
	return appendBool(b, t.Suspended)
}

func (d *binaryDecoder) transfer() *Transfer {
	if d.byte() == 0 {
		return nil
	}
	return &Transfer{
		ID: TransferID(d.text()), To: TenantID(d.text()), As: LicenseID(d.text()),
		Key: LicenseKey{ID: KeyID(d.text()), Hash: []byte(d.text())}, State: TransferState(d.text()), At: d.time(),
		Kept: int(d.signed()), InUse: int(d.signed()), Fences: d.unsigned(), OldKeyUntil: d.time(), Suspended: d.byte() != 0,
	}
}

func (p *Policy) appendBinary(b []byte) []byte {
	for _, n := range []int{p.LeaseSeconds, p.HeartbeatSeconds, p.OveragePercent, p.ReviveSeconds, p.MaxPerUser, p.MaxPerMachine, p.BorrowDays, p.BorrowMax, p.BorrowLowWater, p.GraceDays} {
		b = binary.AppendVarint(b, int64(n))
	}
	b = appendText(b, p.SeatPer)
	b = appendText(b, p.Overage)
	b = appendText(b, p.OnShrink)
	b = appendTime(b, p.StartsAt)
	b = appendTime(b, p.ExpiresAt)
	b = appendBool(b, p.Trial)
	b = binary.AppendUvarint(b, uint64(len(p.Features)))
	for _, feature := range p.Features {
		b = appendText(b, feature)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Reservations)))
	for _, r := range p.Reservations {
		b = appendText(b, r.Name)
		b = binary.AppendVarint(b, int64(r.Seats))
		b = binary.AppendVarint(b, int64(r.Priority))
		b = binary.AppendUvarint(b, uint64(len(r.Users)))
		for _, user := range r.Users {
			b = appendText(b, user)
		}
	}
	return b
}

func (d *binaryDecoder) policy() Policy {
	var p Policy
	for _, n := range []*int{&p.LeaseSeconds, &p.HeartbeatSeconds, &p.OveragePercent, &p.ReviveSeconds, &p.MaxPerUser, &p.MaxPerMachine, &p.BorrowDays, &p.BorrowMax, &p.BorrowLowWater, &p.GraceDays} {
		*n = int(d.signed())
	}
	p.SeatPer = SeatPer(d.text())
	p.Overage = Overage(d.text())
	p.OnShrink = OnShrink(d.text())
	p.StartsAt = d.time()
	p.ExpiresAt = d.time()
	p.Trial = d.byte() != 0
	for range d.count() {
		p.Features = append(p.Features, d.text())
	}
	for range d.count() {
		r := Reservation{Name: d.text(), Seats: int(d.signed()), Priority: int(d.signed())}
		for range d.count() {
			r.Users = append(r.Users, Pseudonym(d.text()))
		}
		p.Reservations = append(p.Reservations, r)
	}
	return p
}

func (r *leaseRecord) appendBinary(b []byte) []byte {
	b = appendText(b, r.texts)
	b = binary.AppendUvarint(b, uint64(r.idLen))
	b = binary.AppendUvarint(b, uint64(r.userLen))
	b = binary.AppendUvarint(b, uint64(r.machineLen))
	b = append(b, byte(r.state))
	b = appendBool(b, r.overage)
	b = appendBool(b, r.borrowed)
	b = binary.AppendUvarint(b, r.fence)
	b = binary.AppendVarint(b, r.acquiredAt)
	b = binary.AppendVarint(b, r.expiresAt)
	return binary.AppendVarint(b, r.changesAt)
}

// UnmarshalBinary makes t, a new tenant, what AppendBinary was given. It implements encoding.BinaryUnmarshaler.
//
// Errors: the bytes are not what AppendBinary of this program appends; t is of no use then.
func (t *Tenant) UnmarshalBinary(b []byte) error {
	d := binaryDecoder{rest: b}
	t.ID = TenantID(d.text())
	t.Name = d.text()
	t.Status = TenantStatus(d.text())
	t.CreatedAt = d.time()
	t.Version = d.unsigned()
	for range d.count() {
		t.decodeLicense(&d)
	}
	for range d.count() {
		m := &Member{User: Pseudonym(d.text()), Role: Role(d.text()), Removed: d.byte() != 0}
		if t.members == nil {
			t.members = map[Pseudonym]*Member{}
		}
		t.members[m.User] = m
	}
	for range d.count() {
		t.decodeTenantKey(&d)
	}
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.rest))
	}
	if d.err != nil {
		return fmt.Errorf("tenant %s: %w", t.ID, d.err)
	}
	return nil
}

func (t *Tenant) decodeTenantKey(d *binaryDecoder) {
	k := &TenantKey{}
	k.ID = KeyID(d.text())
	if hash := d.text(); hash != "" {
		k.Hash = []byte(hash)
	}
	k.Name, k.Role, k.Member = d.text(), Role(d.text()), Pseudonym(d.text())
	k.CreatedAt, k.Until, k.Revoked = d.time(), d.time(), d.byte() != 0
	if d.err == nil && k.Member != "" && t.members[k.Member] == nil {
		d.fail(errors.New("a key of a member that is not there"))
	}
	if t.tenantKeys == nil {
		t.tenantKeys = map[KeyID]*TenantKey{}
	}
	t.tenantKeys[k.ID] = k
}

func (t *Tenant) decodeLicense(d *binaryDecoder) {
	l := &License{inDue: absent}
	l.Tenant = t.ID
	l.ID = LicenseID(d.text())
	l.Product = d.text()
	l.Seats = int(d.signed())
	l.Policy = d.policy()
	l.Status = LicenseStatus(d.text())
	l.IssuedAt = d.time()
	l.Key = LicenseKey{ID: KeyID(d.text()), Hash: []byte(d.text())}
	if l.OldKey.ID = KeyID(d.text()); l.OldKey.ID != "" {
		l.OldKey.Hash = []byte(d.text())
	} else {
		d.text()
	}
	l.OldKeyUntil = d.time()
	l.evictFrom = d.unsigned()
	l.ReceivedBy = TransferID(d.text())
	l.fences, l.Arriving, l.seatsCome, l.arrivedAt = d.unsigned(), int(d.signed()), int(d.signed()), d.time()
	t.setTransfer(l, d.transfer())
	active := d.count()
	for range active {
		d.lease(&l.leases)
	}
	for range d.count() {
		d.lease(&l.leases)
	}
	if l.leases.due.len() != active {
		d.fail(errors.New("an active lease among the ended ones"))
	}
	for _, n := range l.leases.due.items {
		if l.leases.record(n).borrowed {
			l.Borrowed++
		}
	}
	l.recount()
	for range d.count() {
		h := Holder{User: Pseudonym(d.text()), Machine: Pseudonym(d.text()), Process: Pseudonym(d.text())}
		l.queue = append(l.queue, waiter{h, int(d.signed())})
	}
	for _, tallies := range []map[Pseudonym]tally{l.users, l.machines} {
		for range d.count() {
			p, since := Pseudonym(d.text()), d.unsigned()
			of, known := tallies[p]
			if !known {
				d.fail(errors.New("a count of leases that are not there"))
				return
			}
			of.since = since
			tallies[p] = of
		}
	}
	if d.err != nil {
		return
	}
	t.count(l)
	if len(l.queue) > 0 {
		t.queues = append(t.queues, l)
	}
	t.licenses[l.ID] = l
	t.keys[l.Key.ID] = l
	if l.OldKey.ID != "" {
		t.keys[l.OldKey.ID] = l
	}
	t.reschedule(l)
}

// restore keeps a lease as it was.
func (s *leases) restore(r leaseRecord) {
	n := s.allocate()
	r.inDue = absent
	*s.record(n) = r
	s.byID.Add(hashOfID(r.id()), n)
	if r.state == stateActive {
		s.byHolder.Add(hashOfHolder(r.holder()), n)
		s.due.put(s, n)
	} else {
		s.ended = append(s.ended, n)
	}
}

func appendText[T ~string | ~[]byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendBool(b []byte, yes bool) []byte {
	if yes {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendTime(b []byte, at time.Time) []byte {
	if at.IsZero() {
		return append(b, 0)
	}
	return binary.AppendVarint(append(b, 1), millis(at))
}

// binaryDecoder reads what AppendBinary appends. After an error it reads zeros.
type binaryDecoder struct {
	rest []byte
	err  error
}

var errCutOff = errors.New("cut off")

func (d *binaryDecoder) unsigned() uint64 {
	x, n := binary.Uvarint(d.rest)
	return advance(d, x, n)
}

func (d *binaryDecoder) signed() int64 {
	x, n := binary.Varint(d.rest)
	return advance(d, x, n)
}

func advance[T any](d *binaryDecoder, x T, n int) T {
	if n <= 0 {
		d.fail(errCutOff)
		return *new(T)
	}
	d.rest = d.rest[n:]
	return x
}

func (d *binaryDecoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

// count reads how many things follow; each takes a byte at least.
func (d *binaryDecoder) count() int {
	n := d.unsigned()
	if n > uint64(len(d.rest)) {
		d.fail(errCutOff)
		return 0
	}
	return int(n)
}

func (d *binaryDecoder) text() string {
	n := d.count()
	text := string(d.rest[:n])
	d.rest = d.rest[n:]
	return text
}

func (d *binaryDecoder) time() time.Time {
	if d.byte() == 0 {
		return time.Time{}
	}
	return instant(d.signed())
}

func (d *binaryDecoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail(errCutOff)
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

// lease reads a lease and keeps it in s.
func (d *binaryDecoder) lease(s *leases) {
	r := leaseRecord{
		texts: d.text(),
		idLen: uint16(d.unsigned()), userLen: uint16(d.unsigned()), machineLen: uint16(d.unsigned()),
		state: stateByte(d.byte()), overage: d.byte() != 0, borrowed: d.byte() != 0, fence: d.unsigned(),
		acquiredAt: d.signed(), expiresAt: d.signed(), changesAt: d.signed(),
	}
	if int(r.idLen)+int(r.userLen)+int(r.machineLen) > len(r.texts) || r.state == 0 || int(r.state) >= len(leaseStates) {
		d.fail(errors.New("a lease that cannot be"))
	}
	if d.err == nil {
		s.restore(r)
	}
}
