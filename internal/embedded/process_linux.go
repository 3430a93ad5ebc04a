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
// directory. Numbers in a pid file prove nothing after a reboot; this does. Those whose cluster was deleted under them
// count, too: they notice only after a minute, and then remove the socket of whoever has their place by then.
// ok is false where it cannot be known.
func postgresProcesses(cluster string) (pids []int, ok bool) {
	dir, err := os.Stat(cluster)
	if err != nil && !os.IsNotExist(err) {
		return nil, false
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(cluster))
	if err != nil {
		return nil, os.IsNotExist(err)
	}
	deleted := filepath.Join(parent, filepath.Base(cluster)) + " (deleted)" // as the kernel writes it
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
		cwd := filepath.Join(proc, "cwd")
		if at, err := os.Stat(cwd); err == nil && dir != nil && os.SameFile(at, dir) {
			pids = append(pids, pid)
		} else if name, err := os.Readlink(cwd); err == nil && name == deleted {
			pids = append(pids, pid)
		}
	}
	return pids, true
}
