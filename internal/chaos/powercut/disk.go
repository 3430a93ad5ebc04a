package powercut

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Options are what a Disk is like.
type Options struct {
	// Seed decides what a torn cut leaves: the same calls and the same seed leave the same.
	Seed uint64
	// Strict keeps a name only when its directory was synced: see the package.
	Strict bool
}

// Disk is the file system. It is safe for concurrent use.
type Disk struct {
	strict bool

	mu      sync.Mutex
	random  *rand.Rand
	root    *node
	inodes  uint64   // numbers given out
	changes []change // of names, not durable yet, in order
	boots   int      // how often the power came on; calls of an earlier boot fail
	dark    chan struct{}
	steps   int // taken in all
	cutAt   int // the step at which the power goes; 0: none
	cut     func()

	place string // where it is mounted
}

// node is a file or a directory: as programs see it, and as it is on the disk.
type node struct {
	ino   uint64
	mode  uint32 // with the type
	mtime time.Time

	entries, kept map[string]*node // of a directory: as seen, as on disk

	data, disk []byte  // of a file: as seen, as on disk
	unsynced   []write // what leads from the latter to the former
}

// write is a write to a file, or with truncate a change of its length to offset.
type write struct {
	offset   int64
	data     []byte
	truncate bool
}

// Loss is what a cut took.
type Loss struct {
	Files, Bytes int // files with content that was not durable, and how much of it was written since the last sync
	Names        int // changes of names
}

// Disk sectors are written whole or not at all. In bytes.
const sector = 512

// New returns an empty disk with its power on.
func New(o Options) *Disk {
	d := &Disk{strict: o.Strict, random: rand.New(rand.NewPCG(o.Seed, 0)), dark: make(chan struct{})}
	d.root = d.newNode(syscall.S_IFDIR | 0o755)
	return d
}

func (d *Disk) newNode(mode uint32) *node {
	d.inodes++
	n := &node{ino: d.inodes, mode: mode, mtime: time.Now()}
	if n.isDir() {
		n.entries, n.kept = map[string]*node{}, map[string]*node{}
	}
	return n
}

func (n *node) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

// Cut takes the power away now.
func (d *Disk) Cut(torn bool) Loss {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.powerOff(torn)
}

// CutAfter takes the power away at the n-th step from now, n > 0. A step is a write, a truncation or a change of names once
// it is done but not answered, or either end of a sync. Before that step is answered, and while every other call waits, gone is
// called with what is lost: whoever kills the programs there makes sure that none of them lives to see an error.
func (d *Disk) CutAfter(n int, torn bool, gone func(Loss)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutAt = d.steps + n
	d.cut = func() { gone(d.powerOff(torn)) }
}

// Dark is closed when the power is gone; Restore begins anew.
func (d *Disk) Dark() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dark
}

// Steps returns how many steps were taken since New.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// SyncAll makes everything durable, as sync(1) does.
func (d *Disk) SyncAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.changes {
		c.keep()
	}
	d.changes = nil
	d.walk(func(n *node) { n.flush() })
}

// walk calls f for every node that is on the disk.
func (d *Disk) walk(f func(*node)) {
	var visit func(*node)
	visit = func(n *node) {
		f(n)
		// In the order of the numbers: what is random must not depend on the order of a map.
		byNumber := func(a, b *node) int { return int(a.ino) - int(b.ino) }
		for _, child := range slices.SortedFunc(maps.Values(n.kept), byNumber) {
			visit(child)
		}
	}
	visit(d.root)
}

// powerOff forgets.
func (d *Disk) powerOff(torn bool) Loss {
	select {
	case <-d.dark:
		return Loss{}
	default:
	}
	survive := 0
	if torn {
		survive = d.random.IntN(len(d.changes) + 1)
	}
	for _, c := range d.changes[:survive] {
		c.keep()
	}
	loss := Loss{Names: len(d.changes) - survive}
	d.changes = nil
	d.walk(func(n *node) {
		if len(n.unsynced) > 0 {
			loss.Files++
			for _, w := range n.unsynced {
				loss.Bytes += len(w.data)
			}
			if torn {
				n.tear(d.random)
			}
		}
		n.unsynced, n.data, n.entries = nil, slices.Clone(n.disk), maps.Clone(n.kept)
	})
	d.cutAt, d.cut = 0, nil
	close(d.dark)
	return loss
}

// tear lets a part of what was not synced reach the disk.
func (n *node) tear(random *rand.Rand) {
	var steps []write
	for _, w := range n.unsynced {
		if w.truncate {
			steps = append(steps, w)
		}
		for len(w.data) > 0 {
			size := min(sector-int(w.offset%sector), len(w.data))
			steps = append(steps, write{offset: w.offset, data: w.data[:size]})
			w.offset, w.data = w.offset+int64(size), w.data[size:]
		}
	}
	inOrder := random.IntN(2) == 0
	for _, w := range steps[:random.IntN(len(steps)+1)] {
		if inOrder || w.truncate || random.IntN(2) == 0 {
			n.disk = w.apply(n.disk)
		}
	}
}

// flush makes the content of a file durable.
func (n *node) flush() {
	for _, w := range n.unsynced {
		n.disk = w.apply(n.disk)
	}
	n.unsynced = nil
}

func (n *node) change(w write) {
	n.data = w.apply(n.data)
	n.unsynced = append(n.unsynced, w)
	n.mtime = time.Now()
}

// apply returns content after w.
func (w write) apply(content []byte) []byte {
	end := int(w.offset) + len(w.data)
	if had := len(content); end > had {
		content = slices.Grow(content, end-had)[:end]
		clear(content[had:])
	} else if w.truncate {
		content = content[:end]
	}
	copy(content[w.offset:], w.data)
	return content
}

// step ends a change; EIO when the power goes right now.
func (d *Disk) step() syscall.Errno {
	d.steps++
	if d.steps != d.cutAt {
		return 0
	}
	d.cut()
	return syscall.EIO
}
