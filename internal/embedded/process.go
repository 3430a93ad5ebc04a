package embedded

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
)

// account is the user that Postgres runs as: ourselves, or another one when we are root, as which Postgres refuses to run.
type account struct {
	name     string
	uid, gid uint32
	drop     bool // we are root and this is somebody else
}

func (a account) String() string { return "user " + a.name }

// serverAccount chooses the account: postgres (the Debian package makes it) or nobody in place of root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: strconv.Itoa(os.Geteuid()), uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("uid of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("gid of user %s: %w", name, err)
		}
		return account{name: name, uid: uint32(uid), gid: uint32(gid), drop: true}, nil
	}
	return account{}, fmt.Errorf("Postgres does not run as root, and there is no user postgres or nobody to run it as: start the ledger as another user")
}

// attributes makes a command run as a, without the groups of root.
func (a account) attributes() *syscall.SysProcAttr {
	attr := new(syscall.SysProcAttr)
	if a.drop {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// own gives a file or directory to a.
func (a account) own(path string) error {
	if !a.drop {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// environment is what Postgres gets to see: none of our secrets, and none of the PG… variables that change its defaults.
func environment() []string {
	env := []string{"HOME=/", "LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	if libraries, ok := os.LookupEnv("LD_LIBRARY_PATH"); ok {
		env = append(env, "LD_LIBRARY_PATH="+libraries)
	}
	return env
}

// child is a started process that gets a signal when this process dies, kill -9 included.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // why it exited; set before exited is closed
}

func startChild(cmd *exec.Cmd, user account, whenWeDie syscall.Signal) (*child, error) {
	cmd.Env, cmd.Dir, cmd.SysProcAttr = environment(), "/", user.attributes()
	// A session of its own: Ctrl-C in a terminal goes to us alone, and we stop Postgres when nothing needs it any more.
	cmd.SysProcAttr.Setsid = true
	signalWithParent(cmd.SysProcAttr, whenWeDie)
	c := &child{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends the signal when the thread that forked ends, so this thread stays for as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.exited)
		}
	}()
	return c, <-started
}

// signal ignores that the process has ended: exited tells.
func (c *child) signal(s os.Signal) { _ = c.cmd.Process.Signal(s) }

// shared makes directories visible to a command whatever their parents allow. When root is dropped a command gets an
// open descriptor of each and sees it as /proc/self/fd/N, so a data directory below /root or of mode 0700 works, and
// nothing else in it becomes readable. Otherwise a directory is simply its path.
type shared struct {
	user  account
	files []*os.File
}

func (s *shared) see(dir string) (string, error) {
	if !s.user.drop {
		return dir, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	s.files = append(s.files, f)
	return fmt.Sprintf("/proc/self/fd/%d", 2+len(s.files)), nil // exec.Cmd.ExtraFiles starts at 3
}

func (s *shared) close() {
	for _, f := range s.files {
		f.Close()
	}
}
