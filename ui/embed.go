// Package ui is the web page, embedded. Stub: replaced by the real handler.
package ui

import (
	"embed"
	"net/http"
)

//go:embed all:dist
var dist embed.FS

// Handler serves the page.
func Handler() http.Handler { return http.FileServerFS(dist) }
