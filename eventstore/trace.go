package eventstore

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// tracer records what a command waited for, and each commit: when the answer is known, from the instants that were noted on
// the way. A nil *tracer records nothing.
type tracer struct {
	trace.Tracer
	partition attribute.KeyValue
}

func newTracer(t trace.Tracer, p Partition) *tracer {
	if t == nil {
		return nil
	}
	return &tracer{t, attribute.Int("ledger.partition", int(p))}
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
		span := trace.SpanContextFromContext(r.ctx)
		if !span.IsSampled() || r.taken.IsZero() {
			continue
		}
		if r.taken.Before(began) {
			began = r.taken
		}
		links = append(links, trace.Link{SpanContext: span})
		ctx := trace.ContextWithSpanContext(context.Background(), span)
		at := []attribute.KeyValue{t.partition, attribute.Int64("ledger.seq", int64(seq))}
		t.span(ctx, "queue", r.queued, r.taken, at)
		// What left no events waits for a commit that was sent before.
		sent := p.sent
		if sent.Before(r.taken) {
			sent = r.taken
		}
		t.span(ctx, "decide", r.taken, sent, at)
		t.span(ctx, "append", sent, now, at)
	}
	if len(links) == 0 || p.sent.IsZero() {
		return
	}
	t.span(context.Background(), "commit", began, now, []attribute.KeyValue{
		t.partition, attribute.Int64("ledger.seq", int64(seq)), attribute.Int("ledger.bytes", len(p.record.Body)),
		attribute.Int("ledger.events", p.events), attribute.Int("ledger.commands", len(p.requests)),
	}, links...)
}

func (t *tracer) span(ctx context.Context, name string, from, to time.Time, at []attribute.KeyValue, links ...trace.Link) {
	_, span := t.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(at...), trace.WithLinks(links...))
	span.End(trace.WithTimestamp(to))
}
