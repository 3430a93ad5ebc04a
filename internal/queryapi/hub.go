package queryapi

import (
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// hub hands the changes of each tenant to the streams of this process that show it, with one NATS subscription per
// tenant. A stream that does not keep up never holds up the others.
type hub struct {
	nats   *nats.Conn
	tokens *eventstore.Tokens

	mu     sync.Mutex
	topics map[domain.TenantID]*topic
}

// topic is one tenant that is watched.
type topic struct {
	subscription *nats.Subscription
	readers      map[*reader]struct{}
}

// reader is the end of a topic that a stream holds.
type reader struct {
	changes chan change
	// missed says that changes had no room.
	missed chan struct{}
}

// change is a projections.Change, made ready once for all streams.
type change struct {
	prevVersion, version uint64
	renamed              bool // names are others now: a snapshot is needed
	frame                []byte
}

// readerRoom is how many changes wait for a slow stream before it gets a snapshot instead.
const readerRoom = 32

func newHub(nc *nats.Conn, tokens *eventstore.Tokens) *hub {
	return &hub{nats: nc, tokens: tokens, topics: map[domain.TenantID]*topic{}}
}

// join returns a reader that gets every change from now on. Leave it.
func (h *hub) join(tenant domain.TenantID) (*reader, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[tenant]
	if t == nil {
		t = &topic{readers: map[*reader]struct{}{}}
		subscription, err := h.nats.Subscribe(projections.LiveSubject(tenant), func(m *nats.Msg) { h.deliver(t, m.Data) })
		if err != nil {
			return nil, err
		}
		t.subscription = subscription
		h.topics[tenant] = t
	}
	me := &reader{changes: make(chan change, readerRoom), missed: make(chan struct{}, 1)}
	t.readers[me] = struct{}{}
	return me, nil
}

// leave ends the subscription with the last reader of the tenant.
func (h *hub) leave(tenant domain.TenantID, r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[tenant]
	delete(t.readers, r)
	if len(t.readers) == 0 {
		delete(h.topics, tenant)
		_ = t.subscription.Unsubscribe() // fails only when the connection is closed, and the subscription with it
	}
}

func (h *hub) deliver(t *topic, payload []byte) {
	var c projections.Change
	if err := json.Unmarshal(payload, &c); err != nil {
		return // the version of the next change, or the next ping, shows that one is missing
	}
	position := h.tokens.Token(eventstore.Position{Partition: c.Partition, Seq: c.Seq})
	frame, err := frameOf("change", position, liveChange{ChangedRows: c.ChangedRows, Position: position})
	if err != nil {
		return
	}
	ready := change{prevVersion: c.PrevVersion, version: c.Version, renamed: c.Renamed, frame: frame}
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range t.readers {
		select {
		case r.changes <- ready:
		default:
			select {
			case r.missed <- struct{}{}:
			default: // it is told already
			}
		}
	}
}
