package eventstore

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// tracer records what a command waited for, and each commit. Nothing is recorded while a command runs but three instants;
// the spans are made when its answer is known. A nil *tracer records nothing.
type tracer struct {
	trace.Tracer
	partition attribute.KeyValue
}

// times are the instants of one command that is traced.
type times struct {
	span   trace.SpanContext // of the caller
	queued time.Time
	taken  time.Time // when its commit was begun
}

func newTracer(t trace.Tracer, p Partition) *tracer {
	if t == nil {
		return nil
	}
	return &tracer{t, attribute.Int("ledger.partition", int(p))}
}

// queued returns the times of a command whose caller is traced; nil when it is not.
func (t *tracer) queued(ctx context.Context) *times {
	if t == nil {
		return nil
	}
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		return &times{span: span, queued: time.Now()}
	}
	return nil
}

// commit records a span for the commit, with a link to each of its commands, and three for each command: queue, decide and
// append, the last until now.
func (t *tracer) commit(p *pendingCommit, seq uint64) {
	if t == nil {
		return
	}
	now := time.Now()
	began := p.sent
	var links []trace.Link
	for _, r := range p.requests {
		if r.times == nil {
			continue
		}
		if r.times.taken.Before(began) {
			began = r.times.taken
		}
		links = append(links, trace.Link{SpanContext: r.times.span})
		ctx := trace.ContextWithSpanContext(context.Background(), r.times.span)
		at := []attribute.KeyValue{t.partition, attribute.Int64("ledger.seq", int64(seq))}
		t.span(ctx, "queue", r.times.queued, r.times.taken, at)
		// What left no events waits for a commit that was sent before.
		sent := p.sent
		if sent.Before(r.times.taken) {
			sent = r.times.taken
		}
		t.span(ctx, "decide", r.times.taken, sent, at)
		t.span(ctx, "append", sent, now, at)
	}
	if len(links) == 0 || p.sent.IsZero() {
		return
	}
	t.span(context.Background(), "commit", began, now, []attribute.KeyValue{
		t.partition, attribute.Int64("ledger.seq", int64(seq)), attribute.Int("ledger.bytes", len(p.record.Body)), attribute.Int("ledger.commands", len(p.requests)),
	}, links...)
}

func (t *tracer) span(ctx context.Context, name string, from, to time.Time, at []attribute.KeyValue, links ...trace.Link) {
	_, span := t.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(at...), trace.WithLinks(links...))
	span.End(trace.WithTimestamp(to))
}
