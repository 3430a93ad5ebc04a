package queryapi

import (
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// hub hands the changes of each tenant to the streams of this process that show it, with one NATS subscription per
// tenant. A stream that does not keep up never holds up the others. The latest changes are kept for whoever comes back, also
// for a while after the last one has gone.
type hub struct {
	nats   *nats.Conn
	tokens *eventstore.Tokens
	linger time.Duration // how long a tenant is listened to that nobody watches any more

	mu     sync.Mutex
	topics map[domain.TenantID]*topic
	idle   int // topics without readers
}

// topic is one tenant that is watched, or was.
type topic struct {
	subscription *nats.Subscription
	readers      map[*reader]struct{}
	forget       *time.Timer // ends it, when it has no readers

	recent []change // the latest, each from where the one before ended; oldest first. Its elements never change
	bytes  int      // of recent's frames
}

// reader is the end of a topic that a stream holds.
type reader struct {
	recent  []change // those before the first of changes
	changes chan change
	// missed says that changes had no room.
	missed chan struct{}
}

// change is a projections.Change, made ready once for all streams.
type change struct {
	prevVersion, version uint64
	frame                []byte
}

const (
	// readerRoom is how many changes wait for a slow stream before it gets a snapshot instead.
	readerRoom = 32
	// recentMax and recentBytesMax are how much is kept of a tenant for streams that come back.
	recentMax      = 64
	recentBytesMax = 256 << 10
	// lingerFor is how long a tenant is listened to after its last stream has gone: longer than a page takes to connect again.
	lingerFor = 30 * time.Second
	// idleMax is how many tenants are listened to that nobody watches.
	idleMax = 200
)

func newHub(nc *nats.Conn, tokens *eventstore.Tokens) *hub {
	return &hub{nats: nc, tokens: tokens, linger: lingerFor, topics: map[domain.TenantID]*topic{}}
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
	} else if len(t.readers) == 0 {
		t.forget.Stop()
		h.idle--
	}
	me := &reader{recent: t.recent, changes: make(chan change, readerRoom), missed: make(chan struct{}, 1)}
	t.readers[me] = struct{}{}
	return me, nil
}

// leave ends the subscription with the last reader of the tenant, a while after that.
func (h *hub) leave(tenant domain.TenantID, r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[tenant]
	delete(t.readers, r)
	if len(t.readers) > 0 {
		return
	}
	linger := h.linger
	if h.idle++; h.idle > idleMax {
		linger = 0
	}
	t.forget = time.AfterFunc(linger, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.topics[tenant] != t || len(t.readers) > 0 {
			return
		}
		delete(h.topics, tenant)
		h.idle--
		_ = t.subscription.Unsubscribe() // fails only when the connection is closed, and the subscription with it
	})
}

// since returns the changes after a version of the tenant, and false when one of them is not kept any more, or not known yet.
func (r *reader) since(version uint64) ([]change, bool) {
	i := slices.IndexFunc(r.recent, func(c change) bool { return c.prevVersion == version })
	if i < 0 {
		return nil, false
	}
	return r.recent[i:], true
}

func (h *hub) deliver(t *topic, payload []byte) {
	var c projections.Change
	if err := json.Unmarshal(payload, &c); err != nil {
		return // the version of the next change, or the next ping, shows that one is missing
	}
	position := h.tokens.Token(eventstore.Position{Partition: c.Partition, Seq: c.Seq})
	frame, err := frameOf("change", eventID(position, c.Version), liveChange{ChangedRows: c.ChangedRows, Position: position})
	if err != nil {
		return
	}
	ready := change{prevVersion: c.PrevVersion, version: c.Version, frame: frame}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.keep(ready)
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

// keep keeps a change for streams that come back, as long as there is room, and nothing before a gap.
func (t *topic) keep(c change) {
	if n := len(t.recent); n > 0 && t.recent[n-1].version != c.prevVersion {
		t.recent, t.bytes = nil, 0
	}
	t.recent = append(t.recent, c)
	t.bytes += len(c.frame)
	for len(t.recent) > recentMax || t.bytes > recentBytesMax {
		t.bytes -= len(t.recent[0].frame)
		t.recent = t.recent[1:]
	}
}
