package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// mounted is a disk under a test, with the calls of a program that fails the test when one of them fails.
type mounted struct {
	*Disk
	t   testing.TB
	dir string
}

// mount mounts a disk on an empty folder until the test ends.
func mount(t testing.TB, o Options, dir string) *mounted {
	t.Helper()
	m := &mounted{Disk: New(o), t: t, dir: dir}
	if err := m.Mount(m.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *mounted) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *mounted) at(name string) string { return filepath.Join(m.dir, name) }

func (m *mounted) open(name string, flags int) *os.File {
	m.t.Helper()
	f, err := os.OpenFile(m.at(name), flags, 0o600)
	m.must(err)
	m.t.Cleanup(func() { f.Close() })
	return f
}

func (m *mounted) write(f *os.File, offset int64, text string) {
	m.t.Helper()
	_, err := f.WriteAt([]byte(text), offset)
	m.must(err)
}

// put makes a file with this content; save makes it durable, too.
func (m *mounted) put(name, text string) *os.File {
	m.t.Helper()
	f := m.open(name, os.O_CREATE|os.O_RDWR)
	m.write(f, 0, text)
	return f
}

func (m *mounted) save(name, text string) *os.File {
	m.t.Helper()
	f := m.put(name, text)
	m.must(f.Sync())
	return f
}

func (m *mounted) mkdir(name string) { m.t.Helper(); m.must(os.Mkdir(m.at(name), 0o700)) }

func (m *mounted) rename(from, to string) { m.t.Helper(); m.must(os.Rename(m.at(from), m.at(to))) }

func (m *mounted) remove(name string) { m.t.Helper(); m.must(os.Remove(m.at(name))) }

func (m *mounted) syncDir(name string) {
	m.t.Helper()
	d, err := os.Open(m.at(name))
	m.must(err)
	defer d.Close()
	m.must(d.Sync())
}

// tree lists what is there: "a=content b/ b/c=content".
func (m *mounted) tree() string {
	m.t.Helper()
	var found []string
	m.must(filepath.WalkDir(m.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == m.dir {
			return err
		}
		name, err := filepath.Rel(m.dir, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			found = append(found, name+"/")
			return nil
		}
		content, err := os.ReadFile(path)
		found = append(found, name+"="+string(content))
		return err
	}))
	slices.Sort(found)
	return strings.Join(found, " ")
}

// What programs see before a cut, what is left after it, and what is left on a strict disk.
func TestWhatIsDurable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do                   func(*mounted)
		before, left, strict string
	}{
		"nothing synced":     {func(m *mounted) { m.put("a", "1") }, "a=1", "", ""},
		"close syncs not":    {func(m *mounted) { m.must(m.put("a", "1").Close()) }, "a=1", "", ""},
		"a new file, synced": {func(m *mounted) { m.save("a", "1") }, "a=1", "a=1", ""},
		"its folder, synced": {func(m *mounted) { m.put("a", "1"); m.syncDir("") }, "a=1", "a=", "a="},
		"both, synced":       {func(m *mounted) { m.save("a", "1"); m.syncDir("") }, "a=1", "a=1", "a=1"},
		"fdatasync": {func(m *mounted) {
			f := m.put("a", "1")
			m.syncDir("")
			m.must(syscall.Fdatasync(int(f.Fd())))
		}, "a=1", "a=1", "a=1"},
		"synced through another descriptor": {func(m *mounted) {
			m.put("a", "1")
			m.must(m.open("a", os.O_RDONLY).Sync())
			m.syncDir("")
		}, "a=1", "a=1", "a=1"},
		"O_SYNC": {func(m *mounted) {
			m.write(m.open("a", os.O_CREATE|os.O_WRONLY|os.O_SYNC), 0, "1")
			m.syncDir("")
		}, "a=1", "a=1", "a=1"},
		"appended after the sync": {func(m *mounted) {
			m.save("a", "1")
			m.syncDir("")
			_, err := m.open("a", os.O_WRONLY|os.O_APPEND).WriteString("2")
			m.must(err)
		}, "a=12", "a=1", "a=1"},
		"overwritten after the sync": {func(m *mounted) {
			f := m.save("a", "12345")
			m.syncDir("")
			m.write(f, 2, "x")
		}, "a=12x45", "a=12345", "a=12345"},
		"truncated after the sync": {func(m *mounted) {
			f := m.save("a", "12345")
			m.syncDir("")
			m.must(f.Truncate(2))
		}, "a=12", "a=12345", "a=12345"},
		"truncated, synced, and longer again": {func(m *mounted) {
			f := m.save("a", "12345")
			m.must(f.Truncate(2))
			m.must(f.Truncate(4))
			m.must(f.Sync())
			m.syncDir("")
		}, "a=12\x00\x00", "a=12\x00\x00", "a=12\x00\x00"},
		"opened with O_TRUNC": {func(m *mounted) {
			m.save("a", "12345")
			m.syncDir("")
			m.write(m.open("a", os.O_WRONLY|os.O_TRUNC), 0, "x")
		}, "a=x", "a=12345", "a=12345"},
		"only one of two files synced": {func(m *mounted) { m.put("a", "1"); m.save("b", "2") }, "a=1 b=2", "b=2", ""},
		"new folders on the way": {func(m *mounted) {
			m.mkdir("d")
			m.mkdir("d/e")
			m.mkdir("d/f")
			m.save("d/e/a", "1")
		}, "d/ d/e/ d/e/a=1 d/f/", "d/ d/e/ d/e/a=1", ""},
		"a folder synced, its parent not": {func(m *mounted) {
			m.mkdir("d")
			m.save("d/a", "1")
			m.syncDir("d")
		}, "d/ d/a=1", "d/ d/a=1", ""},
		"all folders synced": {func(m *mounted) {
			m.mkdir("d")
			m.save("d/a", "1")
			m.syncDir("d")
			m.syncDir("")
		}, "d/ d/a=1", "d/ d/a=1", "d/ d/a=1"},
		"renamed": {func(m *mounted) {
			m.save("a", "1")
			m.syncDir("")
			m.rename("a", "b")
		}, "b=1", "a=1", "a=1"},
		"renamed, folder synced": {func(m *mounted) {
			m.save("a", "1")
			m.syncDir("")
			m.rename("a", "b")
			m.syncDir("")
		}, "b=1", "b=1", "b=1"},
		"renamed, file synced": {func(m *mounted) {
			f := m.save("a", "1")
			m.syncDir("")
			m.rename("a", "b")
			m.must(f.Sync())
		}, "b=1", "b=1", "a=1"},
		"written aside and renamed over, not synced": {func(m *mounted) {
			m.save("a", "old")
			m.syncDir("")
			m.put("a.tmp", "new")
			m.rename("a.tmp", "a")
		}, "a=new", "a=old", "a=old"},
		"written aside, renamed over, folder synced: the trap": {func(m *mounted) {
			m.save("a", "old")
			m.syncDir("")
			m.put("a.tmp", "new")
			m.rename("a.tmp", "a")
			m.syncDir("")
		}, "a=new", "a=", "a="},
		"written aside, synced, renamed over, folder synced": {func(m *mounted) {
			m.save("a", "old")
			m.syncDir("")
			m.save("a.tmp", "new")
			m.rename("a.tmp", "a")
			m.syncDir("")
		}, "a=new", "a=new", "a=new"},
		"moved between folders, one of them synced": {func(m *mounted) {
			m.mkdir("d")
			m.mkdir("e")
			m.save("d/a", "1")
			m.syncDir("d")
			m.syncDir("")
			m.rename("d/a", "e/a")
			m.syncDir("d")
		}, "d/ e/ e/a=1", "d/ e/ e/a=1", "d/ e/ e/a=1"},
		"a folder renamed": {func(m *mounted) {
			m.mkdir("d")
			m.save("d/a", "1")
			m.syncDir("d")
			m.syncDir("")
			m.rename("d", "e")
		}, "e/ e/a=1", "d/ d/a=1", "d/ d/a=1"},
		"removed": {func(m *mounted) {
			m.save("a", "1")
			m.syncDir("")
			m.remove("a")
		}, "", "a=1", "a=1"},
		"removed, folder synced": {func(m *mounted) {
			m.save("a", "1")
			m.syncDir("")
			m.remove("a")
			m.syncDir("")
		}, "", "", ""},
		"removed and made again, the new one synced": {func(m *mounted) {
			m.save("a", "old")
			m.syncDir("")
			m.remove("a")
			m.save("a", "new")
		}, "a=new", "a=new", "a=old"},
		"removed and made again, the new one and then the folder synced": {func(m *mounted) {
			m.save("a", "old")
			m.syncDir("")
			m.remove("a")
			m.save("a", "new")
			m.syncDir("")
		}, "a=new", "a=new", "a=new"},
		"everything synced": {func(m *mounted) {
			m.mkdir("d")
			m.put("d/a", "1")
			m.SyncAll()
			m.put("b", "2")
		}, "b=2 d/ d/a=1", "d/ d/a=1", "d/ d/a=1"},
	} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/strict=%v", name, strict), func(t *testing.T) {
				t.Parallel()
				m := mount(t, Options{Strict: strict}, t.TempDir())
				c.do(m)
				if got := m.tree(); got != c.before {
					t.Fatalf("before the cut: %q, want %q", got, c.before)
				}
				m.Cut(false)
				m.must(m.Restore())
				want := c.left
				if strict {
					want = c.strict
				}
				if got := m.tree(); got != want {
					t.Fatalf("after the cut: %q, want %q", got, want)
				}
				// What is left is durable, and the disk works.
				m.save("new", "1")
				m.syncDir("")
				m.Cut(false)
				m.must(m.Restore())
				if got := m.tree(); !strings.Contains(got, "new=1") || len(got) < len(want) {
					t.Fatalf("after the next cut: %q, had %q", got, want)
				}
			})
		}
	}
}

func TestEverythingFailsAfterACut(t *testing.T) {
	t.Parallel()
	m := mount(t, Options{}, t.TempDir())
	f := m.save("a", "1")
	m.put("b", "22")
	dark := m.Dark()
	if loss := m.Cut(false); loss != (Loss{Files: 0, Bytes: 0, Names: 1}) {
		t.Fatalf("lost %+v: the file b has no name on the disk", loss)
	}
	<-dark
	fails := func(want ...error) {
		t.Helper()
		_, writeErr := f.WriteAt([]byte("x"), 0)
		_, readErr := f.ReadAt(make([]byte, 1), 0)
		for what, err := range map[string]error{"write": writeErr, "read": readErr, "sync": f.Sync(), "truncate": f.Truncate(0)} {
			if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
				t.Errorf("%s after the cut: %v, want one of %v", what, err, want)
			}
		}
	}
	fails(syscall.EIO)
	for what, err := range map[string]error{
		"open":   open1(m.at("a"), os.O_RDONLY),
		"create": open1(m.at("c"), os.O_CREATE|os.O_RDWR),
		"mkdir":  os.Mkdir(m.at("d"), 0o700),
		"rename": os.Rename(m.at("a"), m.at("c")),
		"remove": os.Remove(m.at("a")),
	} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s after the cut: %v, want EIO", what, err)
		}
	}
	m.must(m.Restore())
	fails(syscall.ENOTCONN, syscall.EIO) // a descriptor of before is of no use any more
	if got := m.tree(); got != "a=1" {
		t.Fatalf("left: %q", got)
	}
}

func open1(name string, flags int) error {
	f, err := os.OpenFile(name, flags, 0o600)
	if err == nil {
		f.Close()
	}
	return err
}

func TestCutAfter(t *testing.T) {
	t.Parallel()
	// Write, then the two ends of a sync: cut at each, and look what is left and what was answered.
	for n, c := range map[int]struct {
		wrote, synced bool
		left          string
	}{
		1: {false, false, "a=old"},
		2: {true, false, "a=old"},
		3: {true, false, "a=new"},
		4: {true, true, "a=new"},
	} {
		m := mount(t, Options{}, t.TempDir())
		f := m.save("a", "old")
		lost := Loss{}
		m.CutAfter(n, false, func(l Loss) { lost = l })
		_, err := f.WriteAt([]byte("new"), 0)
		if (err == nil) != c.wrote {
			t.Errorf("cut at step %d: write answered %v", n, err)
		}
		if err := f.Sync(); (err == nil) != c.synced {
			t.Errorf("cut at step %d: sync answered %v", n, err)
		}
		if n == 4 {
			f.WriteAt([]byte("xxx"), 0)
		}
		<-m.Dark()
		if want := c.left == "a=old" || n == 4; (lost.Bytes == 3) != want {
			t.Errorf("cut at step %d lost %+v", n, lost)
		}
		m.must(m.Restore())
		if got := m.tree(); got != c.left {
			t.Errorf("cut at step %d left %q, want %q", n, got, c.left)
		}
	}
}

// A torn cut keeps what was synced, whole sectors of what was not, and nothing else; over many seeds it leaves all,
// nothing, a first part, and a part with holes.
func TestTornCut(t *testing.T) {
	t.Parallel()
	old, fresh := strings.Repeat("o", 700), strings.Repeat("n", 5*sector)
	seen := map[string]int{}
	for seed := range uint64(200) {
		d := New(Options{Seed: seed})
		n, _ := d.add(d.root, "a", syscall.S_IFREG)
		n.change(write{data: []byte(old)})
		d.sync(n)
		n.change(write{offset: 700, data: []byte(fresh)})
		other, _ := d.add(d.root, "b", syscall.S_IFREG)
		other.change(write{data: []byte("b")})
		d.Cut(true)
		got := n.data
		if !bytes.HasPrefix(got, []byte(old)) {
			t.Fatalf("seed %d: what was synced is torn", seed)
		}
		if b := d.root.entries["b"]; b != nil {
			seen["the name b"]++
			if len(b.data) > 0 {
				seen["the content of b"]++
			}
		}
		// The boundaries of sectors: in the file, not in the write.
		kept, holes := 0, 0
		for from := 700; from < len(got); {
			to := min((from/sector+1)*sector, len(got))
			switch part := string(got[from:to]); part {
			case strings.Repeat("n", to-from):
				kept++
			case strings.Repeat("\x00", to-from):
				holes++
			default:
				t.Fatalf("seed %d: half a sector at %d: %q", seed, from, part)
			}
			from = to
		}
		switch {
		case kept == 0:
			seen["nothing"]++
		case holes > 0:
			seen["holes"]++
		case kept == 6:
			seen["all"]++
		default:
			seen["a first part"]++
		}
	}
	for _, what := range []string{"nothing", "holes", "all", "a first part", "the name b", "the content of b"} {
		if seen[what] < 5 {
			t.Errorf("%s is left in %d of 200 torn cuts", what, seen[what])
		}
	}
	t.Logf("200 torn cuts left %v", seen)
}

func TestSameSeedSameLoss(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) string {
		d := New(Options{Seed: seed})
		for i := range 20 {
			n, _ := d.add(d.root, fmt.Sprint(i), syscall.S_IFREG)
			n.change(write{data: make([]byte, 3*sector)})
		}
		d.Cut(true)
		text := ""
		for i := range 20 {
			if n := d.root.entries[fmt.Sprint(i)]; n != nil {
				text += fmt.Sprint(" ", i, ":", len(n.data))
			}
		}
		return text
	}
	if a, b := run(7), run(7); a != b {
		t.Fatalf("the same seed left\n%s and\n%s", a, b)
	}
	if run(7) == run(8) {
		t.Fatal("another seed left the same")
	}
}

func TestNamesAsElsewhere(t *testing.T) {
	t.Parallel()
	m := mount(t, Options{}, t.TempDir())
	m.mkdir("d")
	m.put("d/a", "1")
	m.put("b", "2")
	for what, c := range map[string]struct{ err, want error }{
		"make what exists":                 {os.Mkdir(m.at("d"), 0o700), syscall.EEXIST},
		"remove a full folder":             {syscall.Rmdir(m.at("d")), syscall.ENOTEMPTY},
		"remove nothing":                   {os.Remove(m.at("x")), syscall.ENOENT},
		"rename nothing":                   {os.Rename(m.at("x"), m.at("y")), syscall.ENOENT},
		"rename a file over a folder":      {syscall.Rename(m.at("b"), m.at("d")), syscall.EISDIR},
		"rename a folder over a file":      {syscall.Rename(m.at("d"), m.at("b")), syscall.ENOTDIR},
		"open a folder for writing":        {open1(m.at("d"), os.O_RDWR), syscall.EISDIR},
		"create exclusively what is there": {open1(m.at("b"), os.O_CREATE|os.O_EXCL|os.O_RDWR), syscall.EEXIST},
		"link":                             {os.Link(m.at("b"), m.at("l")), syscall.ENOTSUP},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
	// A removed file lives on while it is open.
	f := m.open("b", os.O_RDWR)
	m.remove("b")
	m.write(f, 1, "3")
	got := make([]byte, 2)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "23" {
		t.Errorf("removed and open: %q %v", got, err)
	}
	// A shared mapping would let content change without a write.
	if _, err := syscall.Mmap(int(f.Fd()), 0, 2, syscall.PROT_WRITE, syscall.MAP_SHARED); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("shared mapping: %v, want ENODEV", err)
	}
}

// Whose process is dead, or a zombie that waits for its own disk, is unmounted by the next test.
func TestAlive(t *testing.T) {
	t.Parallel()
	if !alive(strconv.Itoa(os.Getpid())) {
		t.Error("this process is not alive")
	}
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(child.Process.Pid)
	if !alive(pid) {
		t.Error("a running process is not alive")
	}
	child.Process.Kill()
	for alive(pid) { // it stays, as a zombie, until somebody waits for it
		runtime.Gosched()
	}
	child.Wait()
	if alive(pid) {
		t.Error("a process that is no more is alive")
	}
}
