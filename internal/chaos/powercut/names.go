package powercut

import "syscall"

// change is one change of names: from is empty for a new node, to for a removed one.
type change struct {
	node     *node
	from, to name
}

type name struct {
	dir  *node // nil: none
	text string
}

// see does a change for programs; keep does it on the disk.
func (c change) see() {
	if c.from.dir != nil {
		delete(c.from.dir.entries, c.from.text)
	}
	if c.to.dir != nil {
		c.to.dir.entries[c.to.text] = c.node
	}
}

func (c change) keep() {
	if c.from.dir != nil {
		delete(c.from.dir.kept, c.from.text)
	}
	if c.to.dir != nil {
		c.to.dir.kept[c.to.text] = c.node
	}
}

// rename does a change, not durably.
func (d *Disk) rename(c change) {
	c.see()
	d.changes = append(d.changes, c)
}

// keepNames makes durable what an fsync of n promises about names: the changes of n itself or in it, and those that they
// build on, which are earlier ones of the same names and the directories on the way that are new.
func (d *Disk) keepNames(n *node) {
	if len(d.changes) == 0 {
		return
	}
	wanted, names := map[*node]bool{}, map[name]bool{}
	if !d.strict {
		wanted[n] = true
	}
	var keep, rest []change // newest first
	for i := len(d.changes) - 1; i >= 0; i-- {
		c := d.changes[i]
		if !wanted[c.node] && c.from.dir != n && c.to.dir != n && !names[c.from] && !names[c.to] {
			rest = append(rest, c)
			continue
		}
		keep = append(keep, c)
		for _, at := range []name{c.from, c.to} {
			if at.dir != nil {
				names[at] = true
				wanted[at.dir] = !d.strict
			}
		}
	}
	for i := len(keep) - 1; i >= 0; i-- {
		keep[i].keep()
	}
	d.changes = d.changes[:0]
	for i := len(rest) - 1; i >= 0; i-- {
		d.changes = append(d.changes, rest[i])
	}
}

// add makes a node in dir. Errors: EEXIST.
func (d *Disk) add(dir *node, text string, mode uint32) (*node, syscall.Errno) {
	if dir.entries[text] != nil {
		return nil, syscall.EEXIST
	}
	n := d.newNode(mode)
	d.rename(change{node: n, to: name{dir, text}})
	return n, d.step()
}

// remove takes a node out of dir. Errors: ENOENT, ENOTEMPTY.
func (d *Disk) remove(dir *node, text string) syscall.Errno {
	n := dir.entries[text]
	if n == nil {
		return syscall.ENOENT
	}
	if len(n.entries) > 0 {
		return syscall.ENOTEMPTY
	}
	d.rename(change{node: n, from: name{dir, text}})
	return d.step()
}

// move gives a node another name, in the place of what has that name. Errors: ENOENT, EISDIR, ENOTDIR, ENOTEMPTY.
func (d *Disk) move(from, to name) syscall.Errno {
	n, replaced := from.dir.entries[from.text], to.dir.entries[to.text]
	switch {
	case n == nil:
		return syscall.ENOENT
	case replaced == n:
		return 0
	case replaced == nil:
	case replaced.isDir() && !n.isDir():
		return syscall.EISDIR
	case !replaced.isDir() && n.isDir():
		return syscall.ENOTDIR
	case len(replaced.entries) > 0:
		return syscall.ENOTEMPTY
	}
	d.rename(change{node: n, from: from, to: to})
	return d.step()
}

// sync makes a file or a directory durable.
func (d *Disk) sync(n *node) syscall.Errno {
	if errno := d.step(); errno != 0 {
		return errno
	}
	n.flush()
	d.keepNames(n)
	return d.step()
}
