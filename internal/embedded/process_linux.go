package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func signalWithParent(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// postgresProcesses returns the running processes of a cluster: the postmaster and its backends all work in its
// directory. Numbers in a pid file prove nothing after a reboot; this does. ok is false where it cannot be known.
func postgresProcesses(cluster string) (pids []int, ok bool) {
	dir, err := os.Stat(cluster)
	if err != nil {
		return nil, os.IsNotExist(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, false
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Another user's process and one that has just ended cannot be read: neither is ours.
		proc := filepath.Join("/proc", e.Name())
		name, err := os.ReadFile(filepath.Join(proc, "comm"))
		if err != nil || strings.TrimSpace(string(name)) != "postgres" {
			continue
		}
		if cwd, err := os.Stat(filepath.Join(proc, "cwd")); err == nil && os.SameFile(cwd, dir) {
			pids = append(pids, pid)
		}
	}
	return pids, true
}
