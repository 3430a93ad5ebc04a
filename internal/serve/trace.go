package serve

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Trace is the middleware around Observe that records a span per request, as a part of the caller's trace (traceparent).
// It carries the route template, never a path: a path names a tenant.
func Trace(next http.Handler, tracer trace.Tracer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method)))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// note completes the span of a request.
func (e *entry) note(span trace.Span, method string, status int) {
	if !span.IsRecording() {
		return
	}
	span.SetName(method + " " + e.route)
	span.SetAttributes(attribute.String("http.route", e.route), attribute.Int("http.response.status_code", status), attribute.String("request_id", e.id))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	if e.err != nil {
		span.RecordError(e.err)
	}
}
