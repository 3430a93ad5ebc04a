// Package process is what every binary does around its pieces: read its configuration once, log, keep metrics and
// health, connect to NATS and Postgres, and serve HTTP until it is told to stop.
//
// Guarantees: what is missing in the configuration is reported all at once, by name; services may start in any order,
// because each waits for what it needs.
package process
