package embedded

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// socketNameMax is the longest path of a unix socket, in bytes, on Linux: sun_path holds 108 with the final zero.
const socketNameMax = 107

// socketDir makes the directory of the socket. Only user may enter it (and root): that is the whole access control.
func socketDir(dir string, user account) (string, error) {
	sockets := runDir(dir)
	if !fits(sockets) {
		sockets = shortDir(dir)
		if !fits(sockets) {
			return "", fmt.Errorf("neither %s nor %s can hold a unix socket, whose path is at most %d bytes and without a comma: choose another directory", dir, sockets, socketNameMax)
		}
	}
	if err := os.Mkdir(sockets, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	// The short one is in a directory that everybody writes to: somebody else may have been there first.
	info, err := os.Lstat(sockets)
	if err != nil {
		return "", err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if inRun := sockets == runDir(dir); !info.IsDir() || (!inRun && owner != user.uid && owner != uint32(os.Geteuid())) {
		return "", fmt.Errorf("%s is not ours (user %d): remove it", sockets, owner)
	}
	if err := os.Chmod(sockets, 0o700); err != nil {
		return "", err
	}
	return sockets, user.own(sockets)
}

// removeSocketDir leaves nothing in the directory for temporary files.
func removeSocketDir(dir, sockets string) {
	if sockets != runDir(dir) {
		_ = os.Remove(sockets) // not empty or gone already: both are fine
	}
}

func runDir(dir string) string { return filepath.Join(dir, "run") }

// shortDir is the same for every run on dir, so a crash leaves at most one behind.
func shortDir(dir string) string {
	key := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("license-ledger-%x", key[:6]))
}

// fits tells whether the socket can be there: its path is short enough, and no client takes a comma for a second host.
func fits(sockets string) bool {
	return len(sockets)+len("/.s.PGSQL."+port) <= socketNameMax && !strings.Contains(sockets, ",")
}
