package eventstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coditect-ai/license-ledger/domain"
)

// Hash is a SHA-256 of a chain. The zero Hash stands before the first link.
type Hash [sha256.Size]byte

// strictBase64 has one text for one value: the standard decoder also takes texts with other trailing bits, and ones with
// line ends, whose length therefore has to be checked.
var strictBase64 = base64.RawURLEncoding.Strict()

// String returns 43 characters of URL-safe base64.
func (h Hash) String() string { return base64.RawURLEncoding.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, h[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := strictBase64.AppendDecode(nil, text)
	if err != nil || len(b) != len(h) || len(text) != strictBase64.EncodedLen(len(h)) {
		return fmt.Errorf("hash %q is not 43 characters of base64", text)
	}
	*h = Hash(b)
	return nil
}

// Next returns the chain's next link: SHA-256 of this hash and the bytes as stored.
func (h Hash) Next(stored []byte) Hash {
	sum := sha256.New()
	sum.Write(h[:])
	sum.Write(stored)
	return Hash(sum.Sum(nil))
}

// CommitMax is the largest commit body, in bytes: what a replicated stream can append as one entry.
const CommitMax = 256 << 10

// Commit is 1 or more events that are stored together, in one message.
type Commit struct {
	ID    string // UUIDv7; tells our commit from another writer's after an unknown outcome
	Epoch uint64 // of the writer
	Prev  Hash   // of the commit before
	// Directory is the sequence in the partition's directory up to which its names must be read to know every pseudonym
	// of this commit.
	Directory uint64
	// Body is a CloudEvents 1.0 JSON batch. These bytes are what is hashed, delivered and exported.
	Body []byte
}

// Hash returns the commit's link of the partition's chain.
func (c Commit) Hash() Hash { return c.Prev.Next(c.Body) }

// The headers of a commit.
const (
	headerContentType = "Content-Type"
	headerEpoch       = "Ledger-Epoch"
	headerPrev        = "Ledger-Prev"
	headerDirectory   = "Ledger-Directory"

	contentTypeBatch = "application/cloudevents-batch+json"
)

// Record returns the commit as it is stored.
func (c Commit) Record() Record {
	return Record{
		ID: c.ID,
		Header: map[string]string{
			headerContentType: contentTypeBatch,
			headerEpoch:       strconv.FormatUint(c.Epoch, 10),
			headerPrev:        c.Prev.String(),
			headerDirectory:   strconv.FormatUint(c.Directory, 10),
		},
		Body: c.Body,
	}
}

// CommitOf reads a stored commit. The events stay encoded.
func CommitOf(r Record) (Commit, error) {
	c := Commit{ID: r.ID, Body: r.Body}
	err := c.Prev.UnmarshalText([]byte(r.Header[headerPrev]))
	var err2, err3 error
	c.Epoch, err2 = strconv.ParseUint(r.Header[headerEpoch], 10, 64)
	c.Directory, err3 = strconv.ParseUint(r.Header[headerDirectory], 10, 64)
	if err := errors.Join(err, err2, err3); err != nil {
		return Commit{}, fmt.Errorf("commit headers: %w", err)
	}
	return c, nil
}

// Checkpoint is a place in a partition's chain. The zero value is the place before the first commit.
type Checkpoint struct {
	Seq  uint64
	Hash Hash
}

// ErrChainBroken: the journal is not the one that the checkpoint was taken from: a commit is missing, the log was rolled
// back, or another ledger's stream stands in its place.
var ErrChainBroken = errors.New("journal chain broken")

// ReadCommits calls f with each commit of the journal after from, in order, and waits for new ones until ctx ends. It
// returns the error of f, of ctx or of the log; never nil.
//
// Errors: ErrChainBroken, with what was found, when sequence or hash do not follow from from.
func ReadCommits(ctx context.Context, journal Log, from Checkpoint, f func(at Checkpoint, c Commit) error) error {
	if err := from.Verify(ctx, journal); err != nil {
		return err
	}
	return journal.Read(ctx, from.Seq, func(seq uint64, r Record) error {
		if seq != from.Seq+1 {
			return fmt.Errorf("%w: after commit %d comes %d", ErrChainBroken, from.Seq, seq)
		}
		c, err := CommitOf(r)
		if err != nil {
			return fmt.Errorf("commit %d: %w", seq, err)
		}
		if c.Prev != from.Hash {
			return fmt.Errorf("%w: commit %d follows a commit with the hash %s, not %s", ErrChainBroken, seq, c.Prev, from.Hash)
		}
		from = Checkpoint{Seq: seq, Hash: c.Hash()}
		return f(from, c)
	})
}

// ReadCommitsUpTo calls f with each commit of the journal after from, up to and including sequence last, which the journal has
// to reach. It returns nil after that one.
//
// Errors: those of ReadCommits; ErrChainBroken also when a commit up to last cannot be read.
func ReadCommitsUpTo(ctx context.Context, journal Log, from Checkpoint, last uint64, f func(at Checkpoint, c Commit) error) error {
	if from.Seq >= last {
		return from.Verify(ctx, journal)
	}
	if err := ReadCommits(ctx, complete{Log: journal, last: last}, from, f); !errors.Is(err, errReadEnough) {
		return err
	}
	return nil
}

// Verify checks that the journal still has the commit at c. When no newer one follows, only that can tell that the log was
// swapped. Errors: ErrChainBroken.
func (c Checkpoint) Verify(ctx context.Context, journal Log) error {
	last, err := journal.Last(ctx)
	if err != nil {
		return err
	}
	if last < c.Seq {
		return fmt.Errorf("%w: it ends at %d, but was read up to %d before; it was rolled back or replaced: "+
			"restore the journal, or, if this loss is accepted, rebuild what was read from it", ErrChainBroken, last, c.Seq)
	}
	if c.Seq == 0 {
		return nil
	}
	r, err := journal.Get(ctx, c.Seq)
	if errors.Is(err, ErrNoRecord) {
		return fmt.Errorf("%w: commit %d is not there any more", ErrChainBroken, c.Seq)
	}
	if err != nil {
		return fmt.Errorf("read commit %d: %w", c.Seq, err)
	}
	found, err := CommitOf(r)
	if err != nil {
		return fmt.Errorf("commit %d: %w", c.Seq, err)
	}
	if found.Hash() != c.Hash {
		return fmt.Errorf("%w: commit %d has the hash %s, but had %s when it was read before: another journal stands in its place",
			ErrChainBroken, c.Seq, found.Hash(), c.Hash)
	}
	return nil
}

// Event is one event of a commit: the CloudEvents attributes and the decoded data.
type Event struct {
	ID          string
	Type        string
	Subject     string
	Time        time.Time // UTC, whole milliseconds; the same for all events of a commit
	Tenant      domain.TenantID
	Version     uint64 // per tenant: 1, 2, 3, …
	Prev        *Hash  // head of the tenant's chain before this slice; of the first event of a slice only
	Actor       string
	Command     string
	Traceparent string
	Data        domain.Event
	// Raw is the event as stored, a part of the commit's body.
	Raw []byte
}

// Slice is all events of one tenant in a commit; they stand together.
type Slice struct {
	Tenant domain.TenantID
	Events []Event
	// Start is where Stored begins in the commit's body, in bytes.
	Start int
	// Stored is the bytes from the first byte of the first event to the last byte of the last, as stored.
	Stored []byte
}

// Head returns the tenant's link of its own chain after this slice.
func (s Slice) Head() Hash { return s.Events[0].Prev.Next(s.Stored) }

// WriterEpochStarted is the first commit of a writer. From then on every append of an older writer is refused. It has
// no tenant.
type WriterEpochStarted struct {
	Epoch  uint64 `json:"epoch"`
	Writer string `json:"writer"` // a random name of the process
}

// EventType implements domain.Event.
func (*WriterEpochStarted) EventType() string { return typeEpochStarted }

// EventSubject implements domain.Event.
func (*WriterEpochStarted) EventSubject() string { return "" }

const typeEpochStarted = "ai.coditect.writer.epoch_started.v1"

// appendEvent appends the event as it will be stored and returns the longer buffer. Raw is not read.
//
// The version is a string: a CloudEvents Integer ends at 2^31-1, which a busy tenant passes within weeks, and then the
// official SDKs refuse the event. The order of the members is fixed: eventDecoder relies on the type before the data.
//
// Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
func appendEvent(buffer []byte, source string, e Event) ([]byte, error) {
	var err error
	member := func(name, text string) {
		if err == nil && text != "" {
			buffer = append(append(buffer, name...), ':')
			buffer, err = jsontext.AppendQuote(buffer, text)
			buffer = append(buffer, ',')
		}
	}
	buffer = append(buffer, `{"specversion":"1.0",`...)
	member(`"id"`, e.ID)
	member(`"source"`, source)
	member(`"type"`, e.Type)
	member(`"subject"`, e.Subject)
	buffer = append(e.Time.AppendFormat(append(buffer, `"time":"`...), time.RFC3339Nano), `",`...)
	member(`"tenant"`, string(e.Tenant))
	if e.Version > 0 {
		buffer = append(strconv.AppendUint(append(buffer, `"version":"`...), e.Version, 10), `",`...)
	}
	if e.Prev != nil {
		buffer = append(base64.RawURLEncoding.AppendEncode(append(buffer, `"prev":"`...), e.Prev[:]), `",`...)
	}
	member(`"actor"`, e.Actor)
	member(`"command"`, e.Command)
	member(`"traceparent"`, e.Traceparent)
	if err == nil {
		buffer, err = appendData(append(buffer, `"data":`...), e.Data)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.Type, err)
	}
	return append(buffer, '}'), nil
}

// appendData appends what json.Marshal makes of an event's data. A heartbeat may name thousands of leases: by hand that takes
// a third of the time.
func appendData(b []byte, data domain.Event) ([]byte, error) {
	beat, ok := data.(*domain.SeatHeartbeat)
	if !ok {
		encoded, err := json.Marshal(data)
		return append(b, encoded...), err
	}
	b, err := jsontext.AppendQuote(append(b, `{"license":`...), string(beat.License))
	b = append(b, `,"leases":[`...)
	for i, id := range beat.Leases {
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b, err = jsontext.AppendQuote(b, string(id))
	}
	return append(beat.ExpiresAt.AppendFormat(append(b, `],"expires_at":"`...), time.RFC3339Nano), `"}`...), err
}

// Decode returns the events of the commit, by slice, in order. An event of the system itself is a slice without tenant.
//
// It refuses a body that is not a batch of events as this package writes them, whose slices do not stand together or do
// not count up, or that holds an event type this program does not know: a program must not skip what it cannot read.
func (c Commit) Decode() ([]Slice, error) { return c.decode(false) }

// Attributes is Decode without the events' data, which stays nil. It costs less, and reads what newer programs wrote.
func (c Commit) Attributes() ([]Slice, error) { return c.decode(true) }

func (c Commit) decode(attributesOnly bool) ([]Slice, error) {
	d := eventDecoder{Decoder: jsontext.NewDecoder(bytes.NewBuffer(c.Body)), attributesOnly: attributesOnly} // a bytes.Buffer is read in place
	if tok, err := d.ReadToken(); err != nil || tok.Kind() != '[' {
		return nil, errors.New("commit body is not a JSON array")
	}
	var slices []Slice
	seen := map[domain.TenantID]bool{}
	start := int64(0) // of the present slice
	for i := 0; d.PeekKind() != ']'; i++ {
		before := d.last
		e, began, err := d.event()
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		end := d.InputOffset()
		e.Raw = c.Body[began:end]
		last := len(slices) - 1
		if last >= 0 && !e.Time.Equal(before.Time) {
			return nil, fmt.Errorf("event %d: its time %s is not that of the commit", i, e.Time)
		}
		if e.Prev == nil && e.Tenant != "" && last >= 0 && before.Tenant == e.Tenant {
			if e.Version != before.Version+1 {
				return nil, fmt.Errorf("event %d: version %d of %s follows %d", i, e.Version, e.Tenant, before.Version)
			}
			slices[last].Events = append(slices[last].Events, e)
			slices[last].Stored = c.Body[start:end]
			continue
		}
		switch {
		case seen[e.Tenant]:
			return nil, fmt.Errorf("event %d: the events of %q do not stand together", i, e.Tenant)
		case (e.Prev == nil) != (e.Tenant == ""):
			return nil, fmt.Errorf("event %d: the first event of a tenant's slice has prev, and no other", i)
		}
		seen[e.Tenant] = e.Tenant != ""
		start = began
		slices = append(slices, Slice{Tenant: e.Tenant, Events: []Event{e}, Start: int(start), Stored: e.Raw})
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("commit body: %w", err)
	}
	if len(bytes.TrimSpace(c.Body[d.InputOffset():])) > 0 {
		return nil, errors.New("commit body goes on after its end")
	}
	if len(slices) == 0 {
		return nil, errors.New("commit without events")
	}
	return slices, nil
}

// eventDecoder reads the events of a commit, in one pass. What an event has in common with the one before it, it shares with
// it: most of its attributes.
type eventDecoder struct {
	*jsontext.Decoder
	last           Event // without Raw
	source, time   string
	attributesOnly bool
}

// event reads the next event and returns where it begins. Raw is left empty.
func (d *eventDecoder) event() (e Event, began int64, err error) {
	if tok, err := d.ReadToken(); err != nil {
		return e, 0, err
	} else if tok.Kind() != '{' {
		return e, 0, fmt.Errorf("%s is no event", tok.Kind())
	}
	began = d.InputOffset() - 1
	specVersion, version := "", ""
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return e, 0, err
		}
		switch string(name) {
		case `"specversion"`:
			specVersion, err = d.text("1.0")
		case `"id"`:
			e.ID, err = d.text("")
		case `"source"`:
			d.source, err = d.text(d.source)
		case `"type"`:
			e.Type, err = d.text(d.last.Type)
		case `"subject"`:
			e.Subject, err = d.text(d.last.Subject)
		case `"time"`:
			e.Time, err = d.instant()
		case `"tenant"`:
			var tenant string
			tenant, err = d.text(string(d.last.Tenant))
			e.Tenant = domain.TenantID(tenant)
		case `"version"`:
			if version, err = d.text(""); err == nil {
				e.Version, err = strconv.ParseUint(version, 10, 64)
			}
		case `"prev"`:
			e.Prev = new(Hash)
			err = d.parse(e.Prev)
		case `"actor"`:
			e.Actor, err = d.text(d.last.Actor)
		case `"command"`:
			e.Command, err = d.text(d.last.Command)
		case `"traceparent"`:
			e.Traceparent, err = d.text(d.last.Traceparent)
		case `"data"`:
			if d.attributesOnly {
				err = d.SkipValue()
				break
			}
			// The type stands before it: so it is read right into what it is.
			if e.Data = newEvent(e.Type); e.Data == nil {
				return e, 0, fmt.Errorf("unknown event type %q; a newer program wrote it: upgrade this one", e.Type)
			}
			if err = json.UnmarshalDecode(d.Decoder, e.Data); err != nil {
				err = fmt.Errorf("data of %s: %w", e.Type, err)
			}
		default:
			err = d.SkipValue() // of a later version
		}
		if err != nil {
			return e, 0, fmt.Errorf("%s: %w", d.StackPointer(), err)
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return e, 0, err
	}
	d.last = e
	switch {
	case specVersion != "1.0":
		err = fmt.Errorf("specversion %q, not 1.0", specVersion)
	case e.Data == nil && !d.attributesOnly:
		err = fmt.Errorf("data of %s: missing", e.Type)
	case (e.Tenant == "") != (e.Type == typeEpochStarted):
		err = fmt.Errorf("%s with tenant %q", e.Type, e.Tenant)
	case e.Time.Location() != time.UTC || e.Time.Year() < 1 || !e.Time.Equal(e.Time.Truncate(time.Millisecond)):
		err = fmt.Errorf("time %s is not UTC in whole milliseconds", e.Time)
	case (e.Tenant == "") != (e.Version == 0) || strings.HasPrefix(version, "0"):
		err = fmt.Errorf("version %s of tenant %q", cmp.Or(version, "0"), e.Tenant)
	}
	return e, began, err
}

// text reads a string. If it equals like, that is what is returned, and nothing is allocated.
func (d *eventDecoder) text(like string) (string, error) {
	v, err := d.ReadValue()
	if err != nil {
		return "", err
	}
	if v.Kind() != '"' {
		return "", fmt.Errorf("%s is not a string", v.Kind())
	}
	inner := v[1 : len(v)-1]
	if bytes.IndexByte(inner, '\\') >= 0 {
		if inner, err = jsontext.AppendUnquote(nil, v); err != nil {
			return "", err
		}
	}
	if string(inner) == like {
		return like, nil
	}
	return string(inner), nil
}

// parse reads a string into what understands it.
func (d *eventDecoder) parse(to encoding.TextUnmarshaler) error {
	text, err := d.text("")
	if err != nil {
		return err
	}
	return to.UnmarshalText([]byte(text))
}

// instant reads a time: the same for all events of a commit.
func (d *eventDecoder) instant() (time.Time, error) {
	text, err := d.text(d.time)
	if err != nil || (text == d.time && text != "") {
		return d.last.Time, err
	}
	d.time = text
	var at time.Time
	err = at.UnmarshalText([]byte(text))
	return at, err
}

func newEvent(eventType string) domain.Event {
	if eventType == typeEpochStarted {
		return &WriterEpochStarted{}
	}
	return domain.NewEvent(eventType)
}
