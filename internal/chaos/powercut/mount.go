package powercut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// fsType is the type of a mount in /proc/self/mounts, behind "fuse."; its device is the process that serves it.
const fsType = "ledger-powercut"

// Mount mounts the disk on an empty directory. As root it needs /dev/fuse; as another user also fusermount3. Mounts that
// a killed process left are taken away first.
func (d *Disk) Mount(dir string) error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("mounting a file system in user space needs the kernel module fuse, and in a container the device: docker run --device /dev/fuse --cap-add SYS_ADMIN: %w", err)
	}
	if err := unmountDead(); err != nil {
		return fmt.Errorf("take away what a killed process left: %w", err)
	}
	d.mu.Lock()
	boot := d.boots
	d.mu.Unlock()
	root := &inode{disk: d, boot: boot, node: d.root}
	_, err := fs.Mount(dir, root, &fs.Options{MountOptions: fuse.MountOptions{
		Name: fsType, FsName: strconv.Itoa(os.Getpid()),
		DirectMount:   true,
		DisableXAttrs: true, // else the kernel asks for one before each write
		DisableSplice: true, // nothing here is in a file that could be spliced
		MaxWrite:      1 << 20,
	}})
	if err != nil {
		return fmt.Errorf("mount on %s (as another user than root it needs fusermount3, in Debian's package fuse3): %w", dir, err)
	}
	d.place = dir
	return nil
}

// Unmount takes the mount away, whoever still uses it: their calls fail.
func (d *Disk) Unmount() error { return unmount(d.place) }

// Restore turns the power on again, after a cut, and mounts what survived.
func (d *Disk) Restore() error {
	if err := d.Unmount(); err != nil {
		return err
	}
	d.mu.Lock()
	d.boots++
	d.dark = make(chan struct{})
	d.mu.Unlock()
	return d.Mount(d.place)
}

// unmount detaches a mount at once, even one in use, and ends the calls on it that nobody answers.
func unmount(dir string) error {
	err := syscall.Unmount(dir, 0)
	if errors.Is(err, syscall.EBUSY) {
		err = syscall.Unmount(dir, syscall.MNT_FORCE|syscall.MNT_DETACH)
	}
	if errors.Is(err, syscall.EPERM) {
		var out []byte
		if out, err = exec.Command("fusermount3", "-u", "-z", dir).CombinedOutput(); err != nil {
			err = fmt.Errorf("fusermount3: %w: %s", err, bytes.TrimSpace(out))
		}
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// unmountDead unmounts disks whose process was killed. It never looks into one: a process that was killed while it waited for
// its own disk waits on as a zombie, and so would we.
func unmountDead() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line) // device, directory, type
		if len(fields) < 3 || fields[2] != "fuse."+fsType || alive(fields[0]) {
			continue
		}
		err := unmount(fields[1])
		if err != nil && !errors.Is(err, syscall.EINVAL) { // another test was faster
			return err
		}
	}
	return nil
}

// alive reports whether a process exists and is no zombie.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat") // number, (name), state
	_, state, found := bytes.Cut(stat, []byte(") "))
	return err == nil && found && state[0] != 'Z' && state[0] != 'X'
}

// inode is what the kernel knows a node by. It belongs to one boot of the disk.
type inode struct {
	fs.Inode
	disk *Disk
	boot int
	node *node
}

// descriptor is an open file.
type descriptor struct{ sync bool }

var (
	_ fs.NodeLookuper  = (*inode)(nil)
	_ fs.NodeReaddirer = (*inode)(nil)
	_ fs.NodeGetattrer = (*inode)(nil)
	_ fs.NodeSetattrer = (*inode)(nil)
	_ fs.NodeStatfser  = (*inode)(nil)
	_ fs.NodeMkdirer   = (*inode)(nil)
	_ fs.NodeCreater   = (*inode)(nil)
	_ fs.NodeUnlinker  = (*inode)(nil)
	_ fs.NodeRmdirer   = (*inode)(nil)
	_ fs.NodeRenamer   = (*inode)(nil)
	_ fs.NodeOpener    = (*inode)(nil)
	_ fs.NodeReader    = (*inode)(nil)
	_ fs.NodeWriter    = (*inode)(nil)
	_ fs.NodeFsyncer   = (*inode)(nil)
	_ fs.NodeFlusher   = (*inode)(nil)
)

// locked calls f while the power is on and nothing else happens.
func (i *inode) locked(f func() syscall.Errno) syscall.Errno {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	if i.boot != i.disk.boots {
		return syscall.EIO
	}
	select {
	case <-i.disk.dark:
		return syscall.EIO
	default:
		return f()
	}
}

// child returns the inode of a node in this directory.
func (i *inode) child(ctx context.Context, n *node, out *fuse.EntryOut) *fs.Inode {
	n.describe(&out.Attr)
	id := fs.StableAttr{Mode: n.mode & syscall.S_IFMT, Ino: n.ino}
	return i.NewInode(ctx, &inode{disk: i.disk, boot: i.boot, node: n}, id)
}

func (n *node) describe(out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink, out.Size, out.Blksize = n.ino, n.mode, 1, uint64(len(n.data)), 4096
	out.Blocks = (out.Size + sector - 1) / sector
	out.Uid, out.Gid = uint32(os.Getuid()), uint32(os.Getgid())
	out.SetTimes(&n.mtime, &n.mtime, &n.mtime)
}

// Lookup implements fs.NodeLookuper.
func (i *inode) Lookup(ctx context.Context, text string, out *fuse.EntryOut) (found *fs.Inode, errno syscall.Errno) {
	errno = i.locked(func() syscall.Errno {
		n := i.node.entries[text]
		if n == nil {
			return syscall.ENOENT
		}
		found = i.child(ctx, n, out)
		return 0
	})
	return found, errno
}

// Readdir implements fs.NodeReaddirer.
func (i *inode) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	var list []fuse.DirEntry
	errno := i.locked(func() syscall.Errno {
		for text, n := range i.node.entries {
			list = append(list, fuse.DirEntry{Name: text, Mode: n.mode, Ino: n.ino})
		}
		return 0
	})
	return fs.NewListDirStream(list), errno
}

// Getattr implements fs.NodeGetattrer.
func (i *inode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return i.locked(func() syscall.Errno {
		i.node.describe(&out.Attr)
		return 0
	})
}

// Setattr implements fs.NodeSetattrer. Of the attributes only the length is kept.
func (i *inode) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return i.locked(func() (errno syscall.Errno) {
		if size, ok := in.GetSize(); ok {
			i.node.change(write{offset: int64(size), truncate: true})
			errno = i.disk.step()
		}
		i.node.describe(&out.Attr)
		return errno
	})
}

// Statfs implements fs.NodeStatfser: nats-server looks how much it may store.
func (i *inode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const blocks = 64 << 30 / 4096
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks, out.Bfree, out.Bavail = blocks, blocks, blocks
	return i.locked(func() syscall.Errno { return 0 })
}

// Mkdir implements fs.NodeMkdirer.
func (i *inode) Mkdir(ctx context.Context, text string, mode uint32, out *fuse.EntryOut) (made *fs.Inode, errno syscall.Errno) {
	errno = i.locked(func() syscall.Errno {
		n, errno := i.disk.add(i.node, text, syscall.S_IFDIR|mode)
		if errno == 0 {
			made = i.child(ctx, n, out)
		}
		return errno
	})
	return made, errno
}

// Create implements fs.NodeCreater.
func (i *inode) Create(ctx context.Context, text string, flags, mode uint32, out *fuse.EntryOut) (made *fs.Inode, f fs.FileHandle, fuseFlags uint32, errno syscall.Errno) {
	errno = i.locked(func() syscall.Errno {
		n, errno := i.disk.add(i.node, text, syscall.S_IFREG|mode)
		if errno == 0 {
			made = i.child(ctx, n, out)
		}
		return errno
	})
	return made, open(flags), fuse.FOPEN_DIRECT_IO, errno
}

// open returns a descriptor. Without the kernel's page cache each write comes here as the program made it.
func open(flags uint32) *descriptor {
	return &descriptor{sync: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}
}

// Unlink implements fs.NodeUnlinker.
func (i *inode) Unlink(_ context.Context, text string) syscall.Errno {
	return i.locked(func() syscall.Errno { return i.disk.remove(i.node, text) })
}

// Rmdir implements fs.NodeRmdirer.
func (i *inode) Rmdir(ctx context.Context, text string) syscall.Errno { return i.Unlink(ctx, text) }

// Rename implements fs.NodeRenamer.
func (i *inode) Rename(_ context.Context, text string, dir fs.InodeEmbedder, newText string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL // exchange and the like
	}
	return i.locked(func() syscall.Errno {
		return i.disk.move(name{i.node, text}, name{dir.(*inode).node, newText})
	})
}

// Open implements fs.NodeOpener. The kernel truncates by Setattr.
func (i *inode) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return open(flags), fuse.FOPEN_DIRECT_IO, i.locked(func() syscall.Errno { return 0 })
}

// Read implements fs.NodeReader.
func (i *inode) Read(_ context.Context, _ fs.FileHandle, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	n := 0
	errno := i.locked(func() syscall.Errno {
		if offset < int64(len(i.node.data)) {
			n = copy(dest, i.node.data[offset:])
		}
		return 0
	})
	if errno != 0 {
		return nil, errno // next to a result go-fuse overlooks it
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// Write implements fs.NodeWriter.
func (i *inode) Write(_ context.Context, f fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	errno := i.locked(func() syscall.Errno {
		i.node.change(write{offset: offset, data: bytes.Clone(data)})
		if errno := i.disk.step(); errno != 0 {
			return errno
		}
		if f.(*descriptor).sync {
			return i.disk.sync(i.node)
		}
		return 0
	})
	return uint32(len(data)), errno
}

// Fsync implements fs.NodeFsyncer, for directories, too.
func (i *inode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return i.locked(func() syscall.Errno { return i.disk.sync(i.node) })
}

// Flush implements fs.NodeFlusher: the kernel need not tell of each close. A killed process would wait for the answer, and when
// the disk is its own, for ever.
func (i *inode) Flush(context.Context, fs.FileHandle) syscall.Errno { return syscall.ENOSYS }
