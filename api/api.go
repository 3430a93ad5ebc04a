// Package api is the one description of the HTTP API, openapi.yaml, and the types generated from it.
package api

import _ "embed"

// Document is openapi.yaml.
//
//go:embed openapi.yaml
var Document []byte
