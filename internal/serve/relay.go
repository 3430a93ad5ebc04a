package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// Relay is the middleware around requests that another process received and handed on: they keep the id they have there.
// That process counts and logs them; here is logged what went wrong, and a panic is answered with a 500.
func Relay(h http.Handler, log *slog.Logger, id string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &entry{id: id}
		r = r.WithContext(context.WithValue(r.Context(), entryKey{}, e))
		defer func() {
			if cause := recover(); cause != nil {
				e.err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
				writeProblem(w, r, e.err)
			}
			if e.err != nil {
				log.Error("relayed request", "method", r.Method, "path", r.URL.Path, "request_id", id, "error", e.err)
			}
		}()
		h.ServeHTTP(w, r)
	})
}
