//go:build !linux

package embedded

import "syscall"

// Only Linux ties a child to its parent. Elsewhere a Postgres that outlives us keeps its own lock, and says so.
func signalWithParent(*syscall.SysProcAttr, syscall.Signal) {}

func postgresProcesses(string) (pids []int, ok bool) { return nil, false }
