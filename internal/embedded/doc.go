// Package embedded runs what the ledger needs beside itself inside one process: a JetStream server, and a Postgres that
// belongs to one data directory.
//
// It guarantees that
//   - a data directory has one user at a time: a second one is refused with the process that holds it;
//   - nothing of it is reachable from the network unless asked: JetStream through memory, Postgres through a socket that
//     only its own user may open;
//   - Postgres never runs as root, needs no directory above its own opened up for it, and does not outlive this process,
//     however that dies; what a crash left behind is stopped before the next start;
//   - JetStream syncs every message to disk before it acknowledges it, and a stream that is on disk but did not load is
//     an error rather than a warning;
//   - neither deletes data. What Postgres holds is rebuilt from the journal: move its directory away and start again.
package embedded
