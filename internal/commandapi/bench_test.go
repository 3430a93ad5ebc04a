package commandapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

// What one request costs from the router to the answer, on a journal in memory, without traces and with.
func BenchmarkRequest(b *testing.B) {
	for name, tracer := range map[string]trace.Tracer{
		"": nil, ", not sampled": tracerOf(sdktrace.NeverSample()), ", traced": tracerOf(sdktrace.AlwaysSample()),
	} {
		s := startTraced(b, eventstoretest.NewStore(1), tracer)
		_, key := s.license("acme", 1_000_000, 3600)
		lease := s.call("POST", "/api/v1/licenses/acquire", key, `{"user":"ada","machine":"ws"}`).str("lease.id")
		measure := func(name, path string, body func(i int) string) {
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					r := httptest.NewRequest(http.MethodPost, "/api/v1/licenses/"+path, strings.NewReader(body(i)))
					r.Header.Set("Authorization", "Bearer "+key)
					w := httptest.NewRecorder()
					s.handler.ServeHTTP(w, r)
					if w.Code > 299 {
						b.Fatal(w.Body)
					}
				}
			})
		}
		measure("heartbeat"+name, "heartbeat", func(int) string { return fmt.Sprintf(`{"lease":%q}`, lease) })
		measure("acquire"+name, "acquire", func(i int) string { return fmt.Sprintf(`{"user":"ada","machine":"ws-%d"}`, i) })
	}
}

func tracerOf(sampler sdktrace.Sampler) trace.Tracer {
	return sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler)).Tracer("test")
}
