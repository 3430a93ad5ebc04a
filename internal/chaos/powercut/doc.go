// Package powercut is a disk that loses its power: a file system in memory, mounted through FUSE, that forgets on command
// what no sync made durable. The processes above it are real.
//
// # What survives a cut
//
// Content. What was written to a file, and its length, is durable once fsync or fdatasync on that file returned, through
// whichever descriptor; a write through a descriptor opened with O_SYNC or O_DSYNC is synced before it returns. Close
// syncs nothing.
//
// Names. Making, renaming and removing a file or a directory is durable
//   - after an fsync of a directory that it changed: one of the two of a rename is enough, and a rename is never half done;
//   - after an fsync of the file itself; then the directories on the way to it that are new are durable, too.
//
// It makes nothing else durable: not the other changes of those directories, not what was done before elsewhere. This is
// what btrfs does, and the least that ext4, XFS and btrfs have in common: the first two keep one ordered journal, so that
// a sync takes earlier changes of names along. A program that survives here survives on all three.
//
// POSIX promises less: there the fsync of a file says nothing about its name. Options.Strict is that disk. nats-server 2.15.2
// does not survive it, even with sync_interval: always. It fsyncs the folder of a stream or of a consumer after writing
// meta.inf there (filestore.go:14825), but no parent of that folder, and never msgs/ after making a block in it
// (filestore.go:5308, newMsgBlockForWrite): a cut would take the newest block, or the whole stream, with everything
// acknowledged in it. No file system that Linux is usually installed on behaves so.
//
// Torn cuts. A disk also writes on its own. In a torn cut, of each file a random first part of what was not synced
// survives, in sectors of 512 bytes, or a random choice of the sectors of that part, with zeros where a lost sector would
// have made the file longer; and of the names a random first part of the changes. A sector is never half written, and
// what was synced is never touched.
//
// What it is not: mmap with MAP_SHARED is refused, hard links, symbolic links, extended attributes and fallocate do not exist,
// permissions and owners are not checked, and the disk is never full.
//
// # After a cut
//
// Every call on the mounted file system fails with EIO. Restore mounts what survived in the same place; descriptors from before
// fail for ever.
package powercut
