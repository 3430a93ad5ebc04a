package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// DirLock says that a data directory belongs to this process.
type DirLock struct{ file *os.File }

// Lock takes dir for this process until Unlock, or until the process dies in whatever way: the kernel holds the lock, so
// there is none to clean up after a crash. dir must exist.
//
// When another process has it, the error names that process, the directory and what to do.
func Lock(dir string) (*DirLock, error) {
	name := filepath.Join(dir, "ledger.lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		return nil, fmt.Errorf("data directory %s is in use by %s: stop it first, or choose another directory with --data", dir, holder(f))
	}
	// The file is never removed: a process that waits with the old file open and one that makes a new file would both
	// believe that the directory is theirs.
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	if _, err := f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return &DirLock{f}, nil
}

// Unlock gives the directory back. Unlocking twice is an error and harmless.
func (l *DirLock) Unlock() error {
	// Close alone would leave the lock to a command that another goroutine is starting: between fork and exec it has
	// every file of ours open.
	connection, err := l.file.SyscallConn()
	if err == nil {
		err = connection.Control(func(fd uintptr) { _ = syscall.Flock(int(fd), syscall.LOCK_UN) })
	}
	return errors.Join(err, l.file.Close())
}

// holder says which process wrote its number into a lock file.
func holder(f io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(f, 20))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return "another process" // it has the lock and has not written its number yet
	}
	return fmt.Sprintf("process %d", pid)
}
