package commandapi_test

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// A trace leads from the caller over the request and what it waited for to the commit, and the events name the request.
func TestTraceFromRequestToCommit(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	s := startTraced(t, eventstoretest.NewStore(1), provider.Tracer("test"))
	const callerTrace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	if r := s.call("POST", "/api/v1/tenants", operatorKey, `{"id":"acme","name":"Acme"}`, "Traceparent", "00-"+callerTrace+"-"+caller+"-01"); r.status != 201 {
		t.Fatalf("%d %s", r.status, r.text)
	}
	found := map[string]tracetest.SpanStub{}
	for _, span := range spans.GetSpans() {
		found[span.Name] = span
	}
	request := found["POST /api/v1/tenants"]
	if request.Parent.SpanID().String() != caller || request.SpanContext.TraceID().String() != callerTrace {
		t.Fatalf("the request's span is no child of the caller's: %+v", found)
	}
	for _, name := range []string{"queue", "decide", "append"} {
		span := found[name]
		if span.Parent.SpanID() != request.SpanContext.SpanID() || span.StartTime.IsZero() || span.EndTime.Before(span.StartTime) {
			t.Errorf("%s: %+v, want a child of the request's span", name, span)
		}
	}
	if commit := found["commit"]; len(commit.Links) != 1 || commit.Links[0].SpanContext.SpanID() != request.SpanContext.SpanID() {
		t.Errorf("the commit's span has no link to the request's: %+v", commit)
	}
	for _, want := range []struct {
		span  string
		value attribute.KeyValue
	}{
		{"POST /api/v1/tenants", attribute.String("ledger.command", "create_tenant")},
		{"POST /api/v1/tenants", attribute.String("ledger.outcome", "done")},
		{"POST /api/v1/tenants", attribute.Int("http.response.status_code", 201)},
		{"append", attribute.Int("ledger.partition", 0)},
		{"append", attribute.Int("ledger.seq", 2)},
		{"commit", attribute.Int("ledger.seq", 2)},
		{"commit", attribute.Int("ledger.events", 1)},
		{"commit", attribute.Int("ledger.commands", 1)},
	} {
		if !slices.Contains(found[want.span].Attributes, want.value) {
			t.Errorf("%s has %v, want %v", want.span, found[want.span].Attributes, want.value)
		}
	}
	want := "00-" + callerTrace + "-" + request.SpanContext.SpanID().String() + "-01"
	seen := false
	err := eventstore.NewState().FoldUpTo(t.Context(), s.store.Journal(0), 2, func(_ eventstore.Checkpoint, c eventstore.Commit) {
		seen = seen || strings.Contains(string(c.Body), `"traceparent":"`+want+`"`)
	})
	if err != nil || !seen {
		t.Errorf("no event has the traceparent %s: %v", want, err)
	}
	for _, span := range spans.GetSpans() {
		for _, a := range append(span.Attributes, span.Resource.Attributes()...) {
			if strings.Contains(a.Value.String(), "acme") {
				t.Errorf("%s names a tenant: %v", span.Name, a)
			}
		}
	}
}

// Who is not traced costs nothing, and what is refused is no error of ours.
func TestOnlyWhatTheCallerRecordsIsTraced(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	s := startTraced(t, eventstoretest.NewStore(1), provider.Tracer("test"))
	s.call("POST", "/api/v1/tenants", operatorKey, `{"id":"acme","name":"Acme"}`)
	if got := spans.GetSpans(); len(got) > 0 {
		t.Fatalf("recorded %v", got)
	}
	s.call("POST", "/api/v1/tenants", operatorKey, `{"id":"acme","name":"Acme"}`, "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	var request tracetest.SpanStub
	for _, span := range spans.GetSpans() {
		if span.Name == "POST /api/v1/tenants" {
			request = span
		}
	}
	if request.Name == "" || request.Status.Code != codes.Unset {
		t.Fatalf("a refused request was recorded as %+v", request)
	}
}
