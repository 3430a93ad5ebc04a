// Package api is the one description of the HTTP API, openapi.yaml, and the types generated from it.
package api

import (
	_ "embed"
	"net/http"

	"github.com/gorilla/mux"
)

// Document is openapi.yaml.
//
//go:embed openapi.yaml
var Document []byte

// Routes adds GET /api/openapi.yaml to router.
func Routes(router *mux.Router) {
	router.Methods(http.MethodGet).Path("/api/openapi.yaml").HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		w.Header().Set("Cache-Control", "no-cache")
		w.Write(Document)
	})
}
