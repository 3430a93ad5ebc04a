package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cluster is Postgres' part of a data directory.
type cluster struct {
	dir  string // absolute: cluster/, run/ with the socket, postgres.log
	user account
	log  *slog.Logger
}

// data is what Postgres calls the data directory.
func (c cluster) data() string { return filepath.Join(c.dir, "cluster") }

// major is the version that made the cluster; 0 when there is none yet.
func (c cluster) major() (int, error) {
	text, err := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if entries, err := os.ReadDir(c.data()); err == nil && len(entries) > 0 {
			return 0, fmt.Errorf("%s has no PG_VERSION, so it is no Postgres cluster: move it away and start again", c.data())
		}
		return 0, nil
	}
	if err != nil {
		return 0, c.explain(err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("version of %s: %w", c.data(), err)
	}
	return major, nil
}

// explain adds to a refused access whose directory it is.
func (c cluster) explain(err error) error {
	if info, statErr := os.Stat(c.data()); statErr == nil && errors.Is(err, fs.ErrPermission) {
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != c.user.uid {
			return fmt.Errorf("%s belongs to user %d and this is user %d: start as root or as that user, or give it away with `chown -R`: %w", c.data(), owner, c.user.uid, err)
		}
	}
	return err
}

// create makes the cluster beside its place and moves it there when it is complete and on disk: a crash in between
// leaves a folder that the next start throws away, never half a cluster.
func (c cluster) create(ctx context.Context, bin binaries, fsync bool, logFile *os.File) error {
	c.log.Info("making a Postgres cluster", "version", bin.major, "directory", c.data())
	fresh, err := os.MkdirTemp(c.dir, creating)
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) // gone when it has been moved
	if err := c.user.own(fresh); err != nil {
		return err
	}
	shared := shared{user: c.user}
	defer shared.close()
	seen, err := shared.see(fresh)
	if err != nil {
		return err
	}
	// The C locale sorts the same on every machine and after every upgrade of the system's library.
	args := []string{"-D", seen, "-U", database, "--encoding=UTF8", "--locale=C", "--data-checksums", "--auth-local=trust", "--auth-host=reject", "--no-instructions"}
	if !fsync {
		args = append(args, "--no-sync")
	}
	cmd := exec.Command(bin.path("initdb"), args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = logFile, logFile, shared.files
	initdb, err := startChild(cmd, c.user, syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-initdb.exited:
		if initdb.err != nil {
			return fmt.Errorf("initdb: %w%s", initdb.err, c.logTail())
		}
	case <-ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its session: initdb runs postgres to do the work
		<-initdb.exited
		return fmt.Errorf("initdb: %w", ctx.Err())
	}
	if err := os.Rename(fresh, c.data()); err != nil {
		return err
	}
	return syncDir(c.dir)
}

// creating begins the name of a cluster that is being made.
const creating = "new-cluster-"

// own gives a cluster to the account that runs it, when another one did before.
func (c cluster) own() error {
	info, err := os.Stat(c.data())
	if err != nil {
		return err
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner == c.user.uid {
		return nil
	} else if !c.user.drop {
		return c.explain(fs.ErrPermission)
	}
	c.log.Info("giving the Postgres cluster to the account that runs it", "directory", c.data(), "user", c.user.name)
	var all []string
	err = filepath.WalkDir(c.data(), func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		return err
	}
	// The top last: it is what the next start looks at, should this one die here.
	for _, path := range slices.Backward(all) {
		if err := c.user.own(path); err != nil {
			return err
		}
	}
	return nil
}

// stopRemains ends every process that a former run left on this cluster, and clears away what a crash left. We hold the
// directory's lock, so none of them belongs to anyone.
func (c cluster) stopRemains(ctx context.Context) error {
	halfMade, err := filepath.Glob(filepath.Join(c.dir, creating+"*"))
	if err != nil {
		return err
	}
	for _, dir := range halfMade {
		pids, _ := postgresProcesses(dir)
		if err := c.end(ctx, dir, pids, syscall.SIGKILL); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	pids, known := postgresProcesses(c.data())
	postmaster := c.postmaster()
	if slices.Contains(pids, postmaster) {
		c.log.Warn("stopping the Postgres of a former run", "directory", c.data(), "pid", postmaster)
		if c.end(ctx, c.data(), []int{postmaster}, syscall.SIGINT) == nil {
			return nil
		}
		pids, _ = postgresProcesses(c.data())
	}
	for _, s := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		if err = c.end(ctx, c.data(), pids, s); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	// Postgres removes a stale pid file by itself, unless the number has gone to another process that it may signal:
	// after a reboot that is quite likely.
	if known && postmaster > 0 && syscall.Kill(postmaster, 0) != syscall.ESRCH {
		c.log.Warn("removing the pid file of a former run, whose number another process has now", "directory", c.data(), "pid", postmaster)
		return removeIfThere(filepath.Join(c.data(), "postmaster.pid"))
	}
	return nil
}

// freeSocket removes the socket's own pid file, for the same reason. The one in a short directory outlives even the
// cluster. sockets is known to be ours, and no process is left on the cluster.
func (c cluster) freeSocket(sockets string) error {
	if left, known := postgresProcesses(c.data()); !known || len(left) > 0 {
		return nil // Postgres finds out
	}
	return removeIfThere(filepath.Join(sockets, ".s.PGSQL."+port+".lock"))
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// end sends s to pids and waits until no process is left on dir.
func (c cluster) end(ctx context.Context, dir string, pids []int, s syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("stop process %d, which a former run left on %s: %w", pid, dir, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*quitTime)
	defer cancel()
	for {
		left, _ := postgresProcesses(dir)
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v of a former run are still using %s: %w", left, dir, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// postmaster is the process in the pid file; 0 when there is none.
func (c cluster) postmaster() int {
	text, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(first)))
	if err != nil {
		return 0
	}
	return pid
}

// openLog begins a new log and keeps the one before it.
func (c cluster) openLog() (*os.File, error) {
	name := c.logName()
	if err := os.Rename(name, name+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, c.explain(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, c.explain(err)
	}
	return f, nil
}

func (c cluster) logName() string { return filepath.Join(c.dir, "postgres.log") }

// logTail quotes the last lines of the log, for an error.
func (c cluster) logTail() string {
	const lines, limit = 12, 4 << 10
	text, err := os.ReadFile(c.logName())
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(text[max(0, len(text)-limit):])), "\n")
	return fmt.Sprintf("\nthe end of %s:\n  %s", c.logName(), strings.Join(all[max(0, len(all)-lines):], "\n  "))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
