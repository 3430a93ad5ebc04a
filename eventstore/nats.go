package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATSStore is a ledger in JetStream: a bucket with its LedgerInfo, two streams per partition, and a bucket with the
// partitions' owners.
type NATSStore struct {
	info        LedgerInfo
	journals    []*natsLog
	directories []*natsLog
	owners      jetstream.KeyValue // nil when opened for reading
}

// The names of what a ledger keeps in JetStream.
const (
	ledgerBucket = "LEDGER"
	ledgerKey    = "ledger"
)

func journalName(p Partition) string   { return fmt.Sprintf("LEDGER_%02d", p) }
func directoryName(p Partition) string { return fmt.Sprintf("DIRECTORY_%02d", p) }

// ErrNoLedger: this JetStream holds no ledger, or none that is complete yet.
var ErrNoLedger = errors.New("there is no ledger here")

// NATSOptions returns what a connection for a ledger needs beyond address and credentials. Nothing may be published behind the
// caller's back after a reconnect, because that would reorder commits in flight. A server that hangs with open connections is
// left for another after 4 to 6 s, and not after as many minutes.
func NATSOptions(name string) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.ReconnectBufSize(-1),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.RetryOnFailedConnect(true),
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
	}
}

// appendTimeout is how long an append may go unanswered before its outcome counts as unknown.
const appendTimeout = 5 * time.Second

func newJetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	return jetstream.New(nc, jetstream.WithPublishAsyncTimeout(appendTimeout))
}

// OpenNATS opens the ledger of nc. Errors: ErrNoLedger; and, when the ledger is there but a stream of it is not, an
// error that says which: it is never created again in silence.
func OpenNATS(ctx context.Context, nc *nats.Conn) (*NATSStore, error) {
	js, err := newJetStream(nc)
	if err != nil {
		return nil, err
	}
	info, err := readInfo(ctx, js)
	if err != nil {
		return nil, err
	}
	s := &NATSStore{info: info}
	err = info.All(func(p Partition) error {
		for _, name := range []string{journalName(p), directoryName(p)} {
			stream, err := js.Stream(ctx, name)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				return fmt.Errorf("the ledger %s has no stream %s any more: what it held is lost here; restore it from a backup", info.ID, name)
			}
			if err != nil {
				return fmt.Errorf("open %s: %w", name, err)
			}
			if id := stream.CachedInfo().Config.Metadata[metadataLedger]; id != info.ID {
				return fmt.Errorf("stream %s belongs to the ledger %q, not to %s: it was swapped; restore the right one", name, id, info.ID)
			}
			log := &natsLog{js: js, stream: stream, subject: stream.CachedInfo().Config.Subjects[0], replicas: stream.CachedInfo().Config.Replicas}
			if name == journalName(p) {
				s.journals = append(s.journals, log)
			} else {
				s.directories = append(s.directories, log)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// JoinNATS opens the ledger of nc to write to it: with the records of who owns a partition. Errors: those of OpenNATS.
func JoinNATS(ctx context.Context, nc *nats.Conn) (*NATSStore, error) {
	s, err := OpenNATS(ctx, nc)
	if err != nil {
		return nil, err
	}
	return s, s.openOwners(ctx)
}

// CreateNATS joins the ledger of nc, or creates one. partitions counts only for a new one; replicas is 1 or, in a
// cluster, 3.
func CreateNATS(ctx context.Context, nc *nats.Conn, partitions, replicas int) (*NATSStore, error) {
	if partitions < 1 || partitions > PartitionsMax {
		return nil, fmt.Errorf("%d partitions: must be 1 to %d", partitions, PartitionsMax)
	}
	if s, err := JoinNATS(ctx, nc); !errors.Is(err, ErrNoLedger) {
		return s, err
	}
	js, err := newJetStream(nc)
	if err != nil {
		return nil, err
	}
	info, err := newInfo(ctx, js, partitions)
	if err != nil {
		return nil, err
	}
	// The streams come first and the record last: a crash between them leaves empty streams and no ledger, and the next
	// start goes on from there.
	err = info.All(func(p Partition) error {
		for _, cfg := range streamConfigs(info, p, replicas) {
			_, err := js.CreateStream(ctx, cfg)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				return fmt.Errorf("%w: the stream %s is of another one, which another process is making right now, or which was lost but for that", ErrNoLedger, cfg.Name)
			}
			if err == nil {
				_, err = js.UpdateStream(ctx, cfg) // see createBucket
			}
			if err != nil {
				return fmt.Errorf("create %s: %w", cfg.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := recordLedger(ctx, js, info, replicas); err != nil {
		return nil, err
	}
	return JoinNATS(ctx, nc)
}

// recordLedger makes the record by which a ledger is known, once its streams are there. One that is there stays.
func recordLedger(ctx context.Context, js jetstream.JetStream, info LedgerInfo, replicas int) error {
	bucket, err := createBucket(ctx, js, jetstream.KeyValueConfig{Bucket: ledgerBucket, Replicas: replicas})
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", ledgerBucket, err)
	}
	record, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if _, err := bucket.Create(ctx, ledgerKey, record); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("record the ledger: %w", err)
	}
	return nil
}

// createBucket creates a bucket, if it is not there, and then updates it to what it is already, as is done with every stream that
// is created. A power cut between the two files by which nats-server describes a stream leaves meta.inf without meta.sum. The
// next start skips that stream; creating it again finds meta.inf and writes neither, so it takes and acknowledges messages
// until a later start skips it with all of them. An update writes both. Source: filestore.go:633 and 759, jetstream.go:1454
// of nats-server 2.15.2.
func createBucket(ctx context.Context, js jetstream.JetStream, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	if _, err := js.CreateOrUpdateKeyValue(ctx, cfg); err != nil {
		return nil, err
	}
	return js.CreateOrUpdateKeyValue(ctx, cfg)
}

// newInfo decides what a new ledger is. Streams left by an attempt that crashed keep their ledger id; streams that hold
// something mean that only the record was lost, and that needs a person.
func newInfo(ctx context.Context, js jetstream.JetStream, partitions int) (LedgerInfo, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return LedgerInfo{}, err
	}
	info := LedgerInfo{ID: id.String(), Partitions: partitions, CreatedAt: time.Now().UTC()}
	list := js.ListStreams(ctx)
	for found := range list.Info() {
		ledger, ours := found.Config.Metadata[metadataLedger]
		if !ours {
			continue
		}
		if found.State.LastSeq > 0 {
			return LedgerInfo{}, fmt.Errorf("%w, but the stream %s has %d messages of the ledger %s: its bucket %s is missing; restore it",
				ErrNoLedger, found.Config.Name, found.State.LastSeq, ledger, ledgerBucket)
		}
		if n, err := strconv.Atoi(found.Config.Metadata[metadataPartitions]); err == nil {
			info.ID, info.Partitions = ledger, n
		}
	}
	if err := list.Err(); err != nil {
		return LedgerInfo{}, fmt.Errorf("list the streams: %w", err)
	}
	return info, nil
}

func readInfo(ctx context.Context, js jetstream.JetStream) (LedgerInfo, error) {
	bucket, err := js.KeyValue(ctx, ledgerBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return LedgerInfo{}, ErrNoLedger
	}
	if err != nil {
		return LedgerInfo{}, fmt.Errorf("open bucket %s: %w", ledgerBucket, err)
	}
	entry, err := bucket.Get(ctx, ledgerKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return LedgerInfo{}, ErrNoLedger
	}
	if err != nil {
		return LedgerInfo{}, fmt.Errorf("read the ledger's record: %w", err)
	}
	var info LedgerInfo
	if err := json.Unmarshal(entry.Value(), &info); err != nil {
		return LedgerInfo{}, fmt.Errorf("read the ledger's record: %w", err)
	}
	return info, nil
}

// The stream metadata that says whose a stream is.
const (
	metadataLedger     = "ledger"
	metadataPartitions = "partitions"
)

// streamConfigs returns the streams of a partition. Nothing is ever evicted: a full disk refuses the append.
func streamConfigs(info LedgerInfo, p Partition, replicas int) [2]jetstream.StreamConfig {
	base := jetstream.StreamConfig{
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		Storage:     jetstream.FileStorage,
		Compression: jetstream.S2Compression,
		Replicas:    replicas,
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1,
		// Message ids are there to name the last message, not to find repeats: what is expected does that. The smallest
		// window costs least.
		Duplicates: 100 * time.Millisecond,
		DenyPurge:  true,
		Metadata:   map[string]string{metadataLedger: info.ID, metadataPartitions: strconv.Itoa(info.Partitions)},
	}
	if replicas > 1 {
		// Under kills a replica of nats-server 2.15.2 can no longer read a block that it has compressed ("s2: corrupt input"),
		// and stops following.
		base.Compression = jetstream.NoCompression
	}
	journal, directory := base, base
	journal.Name, journal.Subjects = journalName(p), []string{fmt.Sprintf("ledger.%02d", p)}
	journal.Description = "Commits. Never deleted."
	journal.DenyDelete = true
	directory.Name, directory.Subjects = directoryName(p), []string{fmt.Sprintf("directory.%02d", p)}
	directory.Description = "Names behind pseudonyms. A person can be forgotten."
	return [2]jetstream.StreamConfig{journal, directory}
}

// Info implements Store.
func (s *NATSStore) Info() LedgerInfo { return s.info }

// Journal implements Store.
func (s *NATSStore) Journal(p Partition) Log { return s.journals[p] }

// Directory implements Store.
func (s *NATSStore) Directory(p Partition) Log { return s.directories[p] }

// natsLog is one stream.
type natsLog struct {
	js       jetstream.JetStream
	stream   jetstream.Stream
	subject  string
	replicas int
}

// InFlightMax implements Log: several on one replica, one on three. The id that fences several off is checked by each replica
// against the last that it applied, and a replica that caught up with the others does not know that one: nats-server
// 2.15.2 leaves it out in processCatchupMsg (jetstream_cluster.go:13894), refuses the next message (stream.go:7042), and stops
// following until it is restarted ("critical write error"). With one in flight the sequence says it all.
func (l *natsLog) InFlightMax() int {
	if l.replicas > 1 {
		return 1
	}
	return inFlightMax
}

// Append implements Log. Nats-Expected-Last-Sequence alone would not do: nats-server accepts a message whose sequence
// fits although the one it was to follow was refused. Nats-Expected-Last-Msg-Id names that one; it is checked when the
// message is applied, on every replica.
func (l *natsLog) Append(after Place, r Record) <-chan error {
	outcome := make(chan error, 1)
	msg := nats.NewMsg(l.subject)
	msg.Data = r.Body
	for key, value := range r.Header {
		msg.Header[key] = []string{value}
	}
	options := []jetstream.PublishOpt{
		jetstream.WithMsgID(r.ID),
		jetstream.WithExpectLastSequence(after.Seq),
		jetstream.WithRetryAttempts(0), // a commit that the library sends again later would overtake those behind it
	}
	if after.Seq > 0 && l.InFlightMax() > 1 {
		options = append(options, jetstream.WithExpectLastMsgID(after.ID))
	}
	ack, err := l.js.PublishMsgAsync(msg, options...)
	if err != nil {
		outcome <- fmt.Errorf("append to %s: %w", l.subject, err)
		return outcome
	}
	go func() {
		select {
		case stored := <-ack.Ok():
			if stored.Sequence != after.Seq+1 {
				outcome <- fmt.Errorf("append to %s: stored at %d, expected %d", l.subject, stored.Sequence, after.Seq+1)
				return
			}
			outcome <- nil
		case err := <-ack.Err():
			outcome <- appendError(l.subject, err)
		}
	}()
	return outcome
}

// wrongLastMsgID is what nats-server answers when the last message is not the expected one. The client has no name for
// it. Source: JSStreamWrongLastMsgIDErrF in nats-server's jetstream_errors_generated.go.
const wrongLastMsgID jetstream.ErrorCode = 10070

// appendError tells a lost race from an unknown outcome. nats-server says 10071 for a wrong sequence on one replica, may
// say 10164 for the same thing on replicated streams, and 10070 when the sequence is right but the message is not.
func appendError(subject string, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant, wrongLastMsgID:
			return fmt.Errorf("append to %s: %w (%w)", subject, ErrConflict, err)
		}
	}
	return fmt.Errorf("append to %s: %w", subject, err)
}

// Read implements Log with an ordered consumer, which starts again by itself where messages were lost on the way.
func (l *natsLog) Read(ctx context.Context, after uint64, f func(uint64, Record) error) error {
	consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   after + 1,
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", l.subject, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(500))
	if err != nil {
		return fmt.Errorf("read %s: %w", l.subject, err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read %s: %w", l.subject, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", l.subject, err)
		}
		if err := f(meta.Sequence.Stream, recordOf(msg.Headers(), msg.Data())); err != nil {
			return err
		}
	}
}

// Last implements Log.
func (l *natsLog) Last(ctx context.Context) (uint64, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("last of %s: %w", l.subject, err)
	}
	return info.State.LastSeq, nil
}

// Get implements Log.
func (l *natsLog) Get(ctx context.Context, seq uint64) (Record, error) {
	msg, err := l.stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Record{}, ErrNoRecord
	}
	if err != nil {
		return Record{}, fmt.Errorf("get %d of %s: %w", seq, l.subject, err)
	}
	return recordOf(msg.Header, msg.Data), nil
}

// Erase implements Log.
func (l *natsLog) Erase(ctx context.Context, seq uint64) error {
	err := l.stream.SecureDeleteMsg(ctx, seq)
	if err != nil {
		// What is not there cannot be deleted, says the server in several ways.
		if _, gone := l.Get(ctx, seq); errors.Is(gone, ErrNoRecord) {
			return nil
		}
		return fmt.Errorf("erase %d of %s: %w", seq, l.subject, err)
	}
	return nil
}

func recordOf(header nats.Header, body []byte) Record {
	r := Record{ID: header.Get(jetstream.MsgIDHeader), Header: make(map[string]string, len(header)), Body: body}
	for key, values := range header {
		r.Header[key] = values[0]
	}
	return r
}
