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

// Routes adds GET /api/openapi.yaml, and GET /api/docs, which shows it to people.
func Routes(router *mux.Router) {
	router.Path("/api/openapi.yaml").Methods(http.MethodGet).HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		w.Header().Set("Cache-Control", "no-cache")
		w.Write(Document)
	})
	router.Path("/api/docs").Methods(http.MethodGet).HandlerFunc(serveDocs)
}
