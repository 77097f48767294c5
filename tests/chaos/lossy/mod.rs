//! A file system in memory that loses what was not synced: [`disk`] holds it, this file serves it through FUSE.
//!
//! The kernel keeps nothing: attributes are asked each time, writes come through at once, and a mount ends before the
//! power is cut, so that the pages of the last one are gone.

pub(crate) mod disk;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};

pub(crate) use disk::Disk;
use disk::{File, Folder, Kind, Node};

/// The name that these mounts have in the kernel's table.
const NAME: &str = "campanile-lossy";
/// The size of a block, as told to those who ask for free space.
const BLOCK: u64 = 4_096;
/// For how long the kernel may believe an attribute.
const FRESH: Duration = Duration::ZERO;
/// How long the processes that used a mount may take to let go of it.
const END_WITHIN: Duration = Duration::from_secs(20);

/// Why lossy disks cannot be had here; nothing when they can.
pub(crate) fn missing() -> Option<String> {
    if !Path::new("/dev/fuse").exists() {
        return Some("no /dev/fuse".into());
    }
    let probe = tempfile::tempdir().ok()?;
    Mount::over(&Disk::new(), probe.path()).err().map(|error| format!("no FUSE mounts: {error:#}"))
}

/// A mount, which ends with this value.
pub(crate) struct Mount {
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mount {
    /// Serves a disk at a folder.
    pub(crate) fn over(disk: &Disk, path: &Path) -> Result<Self> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(NAME.into()), MountOption::Subtype("lossy".into())];
        config.acl = SessionACL::Owner;
        let session = fuser::spawn_mount(Lossy(disk.clone()), path, &config).context("failed to mount")?;
        Ok(Self { path: path.into(), session: Some(session) })
    }

    /// Ends it, and waits until the last request has been answered.
    pub(crate) fn end(mut self) -> Result<()> {
        let session = self.session.take().context("it has ended")?;
        unmount(&self.path)?;
        let begun = Instant::now();
        while !session.guard.is_finished() {
            ensure!(begun.elapsed() < END_WITHIN, "somebody keeps a file of {} open", self.path.display());
            std::thread::sleep(Duration::from_millis(2));
        }
        session.guard.join().map_err(|_| anyhow::anyhow!("the file system panicked"))??;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.session.take().is_some() {
            // A test that fails leaves no mount behind.
            drop(unmount(&self.path));
        }
    }
}

/// Ends a mount, also while a file of it is open still: a process that was killed may not be gone altogether.
fn unmount(path: &Path) -> Result<()> {
    let output = Command::new("umount").arg("--lazy").arg(path).output().context("failed to run umount")?;
    ensure!(output.status.success(), "umount said {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

struct Lossy(Disk);

fn attributes(number: u64, node: &Node) -> FileAttr {
    let (kind, size, nlink) = match &node.kind {
        Kind::File(file) => (FileType::RegularFile, file.current.len() as u64, 1),
        Kind::Folder(_) => (FileType::Directory, 0, 2),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: node.mode,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    }
}

impl Lossy {
    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        self.0.with(|disk| disk.node(number).map(|node| attributes(number, node)))
    }

    fn make(&self, folder: INodeNo, name: &OsStr, kind: Kind, mode: u32) -> Result<FileAttr, Errno> {
        let number = self.0.with(|disk| disk.make(folder.0, name, kind, mode))?;
        self.attributes(number)
    }
}

fn entry(reply: ReplyEntry, made: Result<FileAttr, Errno>) {
    match made {
        Ok(attributes) => reply.entry(&FRESH, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Lossy {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.0.with(|disk| disk.find(parent.0, name)).and_then(|number| self.attributes(number)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino.0) {
            Ok(attributes) => reply.attr(&FRESH, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.0.with(|disk| {
            mode.map_or(Ok(()), |mode| disk.set_mode(ino.0, mode))?;
            size.map_or(Ok(()), |size| disk.set_length(ino.0, size))
        });
        match done.and_then(|()| self.attributes(ino.0)) {
            Ok(attributes) => reply.attr(&FRESH, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.make(parent, name, Kind::Folder(Folder::default()), mode));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.0.with(|disk| disk.remove(parent.0, name)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.0.with(|disk| disk.remove(parent.0, name)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.0.with(|disk| disk.rename((parent.0, name), (newparent.0, newname))));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.make(parent, name, Kind::File(File::default()), mode) {
            Ok(made) => reply.created(&FRESH, &made, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.0.with(|disk| {
            let content = &disk.file(ino.0)?.current;
            let from = content.len().min(offset as usize);
            let to = content.len().min(from + size as usize);
            Ok(content[from..to].to_vec())
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.0.with(|disk| disk.write(ino.0, offset, data)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.0.with(|disk| disk.sync(ino.0)));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.0.with(|disk| disk.sync(ino.0)));
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.0.with(|disk| {
            let entries = disk.folder(ino.0)?.current.clone();
            let mut all = vec![(ino.0, FileType::Directory, ".".into()), (ino.0, FileType::Directory, "..".into())];
            for (name, number) in entries {
                all.push((number, attributes(number, disk.node(number)?).kind, name));
            }
            Ok(all)
        });
        match listed {
            Ok(all) => {
                for (at, (number, kind, name)) in all.into_iter().enumerate().skip(offset as usize) {
                    if reply.add(INodeNo(number), at as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (room, used) = self.0.with(|disk| (disk.room(), disk.used()));
        let free = room.saturating_sub(used) / BLOCK;
        reply.statfs(room / BLOCK, free, free, 1 << 20, 1 << 20, BLOCK as u32, 255, BLOCK as u32);
    }
}
