// Package serve is what the HTTP services share: strict decoding, replies, problems (RFC 9457), the middleware around
// every request, health, and a server that drains.
//
// Guarantees: no input panics a service; a body is at most BodyMax; every refusal is application/problem+json with a
// stable code; every request is logged once, when it ends, without secrets.
package serve
