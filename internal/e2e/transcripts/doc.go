// Package transcripts checks that the docs show what the commands print. Its test runs the transcripts of each page, from top to bottom,
// in a shell beside a ledger of its own, and compares; with -update it writes what it saw instead.
//
// A transcript is a fenced block that begins with "$ ". A line "…" in it stands for any lines, and "# exit code 1" is the command's. What
// differs each time is of no matter: ids, keys, times, heads and how long something took. An id that the page prints stands for the id
// that the ledger gives, also in the commands after it.
//
// What a page does not show but needs stands before the block, in a comment that begins with "<!-- run" on a line of its own: commands of
// the same shell, which have to succeed. There,
//
//	up, down            start the ledger in ./data, end it
//	id lic              finds the first such id, or key with lk, in what is piped into it
//	name lic_… "$id"    gives an id, or that of a key, the name that the page has for it
//	last                is a file with what the command before printed
//
// A block that cannot be run has a comment "<!-- by hand: why -->" above it.
//
// So to add a transcript: write the commands, and go test ./internal/e2e/transcripts -update.
package transcripts
