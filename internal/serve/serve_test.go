package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/internal/serve"
)

func handler(logs io.Writer, h serve.Handler) http.Handler {
	router := serve.NewRouter()
	router.Handle("/x/{id}", h).Methods(http.MethodPost)
	return serve.Observe(router, slog.New(slog.NewJSONHandler(logs, nil)), serve.NewMetrics(prometheus.NewRegistry()))
}

func call(h http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/x/secret-id", strings.NewReader("{}")))
	return w
}

// Whatever goes wrong inside, the client reads "internal" and a request id, and the log has the cause under the same id.
func TestFailuresAreLoggedAndNotTold(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]serve.Handler{
		"error": func(http.ResponseWriter, *http.Request) error { return errors.New("the cause") },
		"panic": func(http.ResponseWriter, *http.Request) error { panic("the cause") },
	} {
		var logs bytes.Buffer
		w := call(handler(&logs, h))
		var p serve.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 500 || p.Code != "internal" || p.RequestID == "" {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "cause") || !strings.Contains(logs.String(), "the cause") || !strings.Contains(logs.String(), p.RequestID) {
			t.Errorf("%s: told %s, logged %s", name, w.Body, &logs)
		}
		if strings.Contains(logs.String(), "secret-id") || !strings.Contains(logs.String(), "/x/{id}") {
			t.Errorf("%s: the log has the path, not the route: %s", name, &logs)
		}
	}
}

func TestProblemQuotesAnything(t *testing.T) {
	t.Parallel()
	w := call(handler(io.Discard, func(http.ResponseWriter, *http.Request) error { return serve.Invalid("id", "bad: \xff\x00") }))
	if w.Code != 400 || !json.Valid(w.Body.Bytes()) {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
}

// A request that runs when the server is told to stop is answered; a stream is told to end.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	entered := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-serve.Stopping(r.Context())
		io.WriteString(w, "answered")
	})
	done := make(chan error, 1)
	go func() { done <- serve.Run(ctx, listener, h, slog.New(slog.DiscardHandler)) }()
	go func() {
		<-entered
		stop()
	}()
	response, err := http.Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "answered" {
		t.Fatalf("%q, %v", body, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestDecodeFindsTheNestedField(t *testing.T) {
	t.Parallel()
	var v struct {
		Items []struct {
			Count int `json:"count"`
		} `json:"items"`
	}
	err := serve.Decode([]byte(`{"items":[{"count":1},{"count":"two"}]}`), &v)
	var p *serve.Problem
	if !errors.As(err, &p) || p.Field != "items[1].count" || !strings.Contains(p.Detail, "whole number") {
		t.Fatalf("decode = %v", err)
	}
}
