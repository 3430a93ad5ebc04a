// Package api is the one description of the HTTP API, openapi.yaml, and the types generated from it.
//
// Guarantees: types.gen.go is what the generator makes of openapi.yaml; a test fails when it is not.
package api
