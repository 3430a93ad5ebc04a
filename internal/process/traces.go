package process

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// startTraces returns what records traces and sends them by OTLP over HTTP, as the standard OTEL_* variables say; nil when no
// endpoint is set: then nothing is recorded, and it costs nothing.
//
// OTEL_EXPORTER_OTLP_ENDPOINT is the collector, such as http://collector:4318; OTEL_TRACES_SAMPLER and
// OTEL_TRACES_SAMPLER_ARG choose what is recorded, by default what the caller records, and every request without one;
// OTEL_SERVICE_NAME is the program's name unless set. All of them: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
func startTraces(log *slog.Logger) *sdktrace.TracerProvider {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" ||
		os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nil
	}
	provider, err := newTracerProvider(context.Background())
	if err != nil {
		log.Error("no traces", "error", err)
		return nil
	}
	return provider
}

func newTracerProvider(ctx context.Context) (*sdktrace.TracerProvider, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTLP exporter: %w", err)
	}
	// What the environment says of the process comes last: it wins.
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", filepath.Base(os.Args[0]))), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)), nil
}

// stopTraces sends what was recorded last.
func (f *Frame) stopTraces() {
	if f.traces == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := f.traces.Shutdown(ctx); err != nil {
		f.Log.Warn("traces not sent", "error", err)
	}
}
