package powercut

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// nats-server keeps a stream in files of 8 MiB, and compresses one when the next begins. Cuts while that happens, to a log of large
// records, lose and change nothing that was acknowledged.
func TestPowerCutsWhileBlocksRoll(t *testing.T) {
	t.Parallel()
	m := newMachine(t, services, rand.Uint64(), syncAlways)
	m.launchNATS()
	nc := m.connect()
	_, err := eventstore.CreateNATS(t.Context(), nc, 1, 1)
	m.must(err)
	nc.Close()
	var log []sent // by sequence, from 1
	cuts := pick(3, 50)
	for cut := range cuts {
		m.cutAfter(1+m.random.IntN(800), cut%2 == 1, func(Loss) {})
		all, acked := m.appendUntilDark(log)
		m.gone()
		m.restore()
		m.launchNATS()
		log = m.checkRecords(all, acked)
		if t.Failed() {
			t.Fatalf("after cut %d of %d", cut+1, cuts)
		}
	}
	t.Logf("%d power cuts, half of them torn, in %d appends of %d KiB, in flight by four: %d blocks of 8 MiB", cuts, len(log), recordSize>>10, len(log)*recordSize>>23)
}

// recordSize is how large a record is: 128 fill a block. In bytes.
const recordSize = 64 << 10

// sent is a record that was sent.
type sent struct {
	id  string
	sum [sha256.Size]byte
}

// appendUntilDark appends records behind log, four in flight, until the power goes. It returns log with what was sent, and
// the sequence up to which that was acknowledged.
func (m *machine) appendUntilDark(log []sent) (all []sent, acked int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), ledgertest.Patience)
	defer cancel()
	nc := m.connect()
	defer nc.Close()
	store, err := eventstore.OpenNATS(ctx, nc)
	m.must(err)
	dark := m.Dark()
	all, acked = log, len(log)
	last := eventstore.Place{Seq: uint64(acked)}
	if acked > 0 {
		last.ID = log[acked-1].id
	}
	var inFlight []<-chan error
	for {
		for len(inFlight) < 4 {
			// Most of it can be compressed.
			body := make([]byte, recordSize)
			for i := range body[:recordSize/8] {
				body[i] = byte(m.random.Uint32())
			}
			r := eventstore.Record{ID: fmt.Sprintf("%d-%d", last.Seq+1, m.random.Uint64()), Body: body}
			inFlight = append(inFlight, store.Journal(0).Append(last, r))
			last = eventstore.Place{Seq: last.Seq + 1, ID: r.ID}
			all = append(all, sent{r.ID, sha256.Sum256(body)})
		}
		select {
		case err := <-inFlight[0]:
			if err != nil {
				<-dark
				return all, acked
			}
			inFlight = inFlight[1:]
			acked++
		case <-dark:
			return all, acked
		}
	}
}

// checkRecords reads the log, and returns what of all is there: at least the acknowledged, each as it was sent.
func (m *machine) checkRecords(all []sent, acked int) []sent {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), ledgertest.Patience)
	defer cancel()
	nc := m.connect()
	defer nc.Close()
	store, err := eventstore.OpenNATS(ctx, nc)
	m.must(err)
	last, err := store.Journal(0).Last(ctx)
	m.must(err)
	if last < uint64(acked) || last > uint64(len(all)) {
		m.t.Errorf("%d records there, %d acknowledged, %d sent", last, acked, len(all))
		return all
	}
	end := fmt.Errorf("all read")
	if last > 0 {
		err = store.Journal(0).Read(ctx, 0, func(seq uint64, r eventstore.Record) error {
			want := all[seq-1]
			if sum := sha256.Sum256(r.Body); r.ID != want.id || !bytes.Equal(sum[:], want.sum[:]) {
				m.t.Errorf("record %d is not what was sent", seq)
			}
			if seq == last {
				return end
			}
			return nil
		})
		if err != end {
			m.t.Errorf("read: %v", err)
		}
	}
	return all[:last]
}
