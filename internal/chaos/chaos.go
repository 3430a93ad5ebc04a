// Package chaos is the ledger under faults. Its packages run short in make test, and long in make chaos.
package chaos

import "os"

// Long reports whether the long form was asked for, by CHAOS=long.
func Long() bool { return os.Getenv("CHAOS") == "long" }
