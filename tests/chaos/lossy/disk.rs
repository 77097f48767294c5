//! What is on a lossy disk, and what a power cut leaves of it.
//!
//! ```text
//! write, truncate ──► current     what reads see
//!                └──► pending     in order, since the last fsync of this file
//! fsync ────────────► durable     pending applied; the list is empty again
//! power cut ────────► some of pending, whole or in torn sectors, in any order, over durable
//! ```
//! A folder's entries are the same: what was made, renamed or removed in it stands only after an fsync of the folder; a
//! power cut keeps the first so many of its changes, as a journal would. This is as unkind as POSIX allows; the file
//! systems that departments use are kinder.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use fuser::Errno;
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// The unit that a disk writes whole or not at all.
const SECTOR: usize = 512;
/// The number of the root folder.
pub(crate) const ROOT: u64 = 1;
/// How much fits when nothing else is said.
const ROOM: u64 = 1 << 30;

/// A disk; clones are the same one. It outlives its mounts.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

/// What was done and what was lost.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) fsyncs: u64,
    pub(crate) fsyncs_failed: u64,
    pub(crate) refused_full: u64,
    pub(crate) cuts: u64,
    pub(crate) writes_lost: u64,
    pub(crate) writes_torn: u64,
    pub(crate) writes_kept: u64,
    pub(crate) entries_lost: u64,
}

pub(crate) struct State {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    room: u64,
    /// The fsync that fails.
    fails: Option<Fails>,
    /// An fsync says that it is done, and does nothing.
    lies: bool,
    pub(crate) counts: Counts,
}

struct Fails {
    /// Of the file or folder of this name.
    name: OsString,
    /// After so many more of it.
    after: u64,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u16,
}

#[derive(Clone)]
pub(crate) enum Kind {
    File(File),
    Folder(Folder),
}

#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Default)]
pub(crate) struct Folder {
    pub(crate) current: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    pending: Vec<Vec<(OsString, Option<u64>)>>,
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => content.resize(*length, 0),
        }
    }

    /// The sectors of it that reached the disk.
    fn torn(&self, random: &mut StdRng) -> Vec<Self> {
        let Self::Write { at, bytes } = self else { return Vec::new() };
        let mut parts = Vec::new();
        let mut from = 0;
        while from < bytes.len() {
            // Sectors lie at multiples on the disk, not in the write.
            let to = ((at + from) / SECTOR * SECTOR + SECTOR - at).min(bytes.len());
            if random.random() {
                parts.push(Self::Write { at: at + from, bytes: bytes[from..to].to_vec() });
            }
            from = to;
        }
        parts
    }
}

impl Folder {
    fn change(&mut self, change: Vec<(OsString, Option<u64>)>) {
        Self::apply(&mut self.current, &change);
        self.pending.push(change);
    }

    fn apply(entries: &mut BTreeMap<OsString, u64>, change: &[(OsString, Option<u64>)]) {
        for (name, node) in change {
            match node {
                Some(node) => entries.insert(name.clone(), *node),
                None => entries.remove(name),
            };
        }
    }
}

impl Disk {
    pub(crate) fn new() -> Self {
        let root = Node { kind: Kind::Folder(Folder::default()), mode: 0o755 };
        let nodes = BTreeMap::from([(ROOT, root)]);
        Self(Arc::new(Mutex::new(State {
            nodes,
            next: ROOT + 1,
            room: ROOM,
            fails: None,
            lies: false,
            counts: Counts::default(),
        })))
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// The fsync of a file, after so many more of it, fails with EIO: what it was for is lost, and those that follow
    /// succeed. A process makes others durable too, in threads of its own; which one fails must not be chance.
    pub(crate) fn fail_fsync(&self, name: &str, after: u64) {
        self.with(|state| state.fails = Some(Fails { name: name.into(), after }));
    }

    /// From now on an fsync says that it is done, and does nothing.
    pub(crate) fn lie(&self) {
        self.with(|state| state.lies = true);
    }

    /// So many bytes are free from now on.
    pub(crate) fn leave_free(&self, bytes: u64) {
        self.with(|state| state.room = state.used() + bytes);
    }

    /// As much is free as at first.
    pub(crate) fn make_room(&self) {
        self.with(|state| state.room = ROOM);
    }

    /// Cuts the power: of what was not synced, chance keeps some. Nothing may have the disk mounted.
    pub(crate) fn cut(&self, random: &mut StdRng) {
        self.with(|state| state.cut(random));
    }
}

impl State {
    pub(crate) fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    pub(crate) fn file(&mut self, number: u64) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&number).map(|node| &mut node.kind) {
            Some(Kind::File(file)) => Ok(file),
            Some(Kind::Folder(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    pub(crate) fn folder(&mut self, number: u64) -> Result<&mut Folder, Errno> {
        match self.nodes.get_mut(&number).map(|node| &mut node.kind) {
            Some(Kind::Folder(folder)) => Ok(folder),
            Some(Kind::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    pub(crate) fn find(&mut self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        self.folder(folder)?.current.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(crate) fn set_mode(&mut self, number: u64, mode: u32) -> Result<(), Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.mode = (mode & 0o7777) as u16;
        Ok(())
    }

    pub(crate) fn used(&self) -> u64 {
        let lengths = self.nodes.values().map(|node| match &node.kind {
            Kind::File(file) => file.current.len() as u64,
            Kind::Folder(_) => 0,
        });
        lengths.sum()
    }

    pub(crate) fn room(&self) -> u64 {
        self.room
    }

    /// Makes a file or folder.
    pub(crate) fn make(&mut self, folder: u64, name: &OsStr, kind: Kind, mode: u32) -> Result<u64, Errno> {
        if self.folder(folder)?.current.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Node { kind, mode: (mode & 0o7777) as u16 });
        self.folder(folder)?.change(vec![(name.into(), Some(number))]);
        Ok(number)
    }

    /// The file lives on as long as the disk; it may be open still.
    pub(crate) fn remove(&mut self, folder: u64, name: &OsStr) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        if let Kind::Folder(inner) = &self.node(number)?.kind
            && !inner.current.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.folder(folder)?.change(vec![(name.into(), None)]);
        Ok(())
    }

    /// Renames within one folder, which is all that anybody needs here.
    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Errno> {
        if from.0 != to.0 {
            return Err(Errno::EXDEV);
        }
        let number = self.find(from.0, from.1)?;
        self.folder(from.0)?.change(vec![(from.1.into(), None), (to.1.into(), Some(number))]);
        Ok(())
    }

    pub(crate) fn write(&mut self, number: u64, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let at = usize::try_from(at).map_err(|_| Errno::EFBIG)?;
        self.grow(number, at + bytes.len())?;
        self.change(number, Change::Write { at, bytes: bytes.into() })
    }

    pub(crate) fn set_length(&mut self, number: u64, length: u64) -> Result<(), Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EFBIG)?;
        self.grow(number, length)?;
        self.change(number, Change::Length(length))
    }

    fn grow(&mut self, number: u64, length: usize) -> Result<(), Errno> {
        let more = length.saturating_sub(self.file(number)?.current.len()) as u64;
        if more > 0 && self.used() + more > self.room {
            self.counts.refused_full += 1;
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn change(&mut self, number: u64, change: Change) -> Result<(), Errno> {
        let file = self.file(number)?;
        change.apply(&mut file.current);
        file.pending.push(change);
        Ok(())
    }

    /// Makes a file or a folder durable.
    pub(crate) fn sync(&mut self, number: u64) -> Result<(), Errno> {
        self.counts.fsyncs += 1;
        if self.lies {
            return Ok(());
        }
        let fails = self.fails(number);
        self.counts.fsyncs_failed += u64::from(fails);
        match &mut self.nodes.get_mut(&number).ok_or(Errno::ENOENT)?.kind {
            // As Linux does it: the error is told once, and what could not be written is forgotten.
            Kind::File(file) if fails => file.pending.clear(),
            Kind::File(file) => file.pending.drain(..).for_each(|change| change.apply(&mut file.durable)),
            Kind::Folder(folder) if fails => folder.pending.clear(),
            Kind::Folder(folder) => {
                folder.pending.drain(..).for_each(|change| Folder::apply(&mut folder.durable, &change));
            }
        }
        if fails { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Whether this fsync is the one that was to fail.
    fn fails(&mut self, number: u64) -> bool {
        let Some(fails) = &mut self.fails else { return false };
        let named = |node: &Node| match &node.kind {
            Kind::Folder(folder) => folder.current.get(&fails.name) == Some(&number),
            Kind::File(_) => false,
        };
        if !self.nodes.values().any(named) {
            return false;
        }
        let now = fails.after == 0;
        fails.after = fails.after.saturating_sub(1);
        if now {
            self.fails = None;
        }
        now
    }

    fn cut(&mut self, random: &mut StdRng) {
        let counts = &mut self.counts;
        counts.cuts += 1;
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::File(file) => {
                    let mut pending = std::mem::take(&mut file.pending);
                    pending.shuffle(random);
                    for change in pending {
                        match random.random_range(0..3) {
                            0 => counts.writes_lost += 1,
                            1 => {
                                counts.writes_kept += 1;
                                change.apply(&mut file.durable);
                            }
                            _ => {
                                counts.writes_torn += 1;
                                change.torn(random).iter().for_each(|part| part.apply(&mut file.durable));
                            }
                        }
                    }
                    file.current = file.durable.clone();
                }
                Kind::Folder(folder) => {
                    let kept = random.random_range(0..=folder.pending.len());
                    counts.entries_lost += (folder.pending.len() - kept) as u64;
                    for change in folder.pending.drain(..).take(kept) {
                        Folder::apply(&mut folder.durable, &change);
                    }
                    folder.current = folder.durable.clone();
                }
            }
        }
        self.forget_unreachable();
    }

    fn forget_unreachable(&mut self) {
        let (mut reached, mut open) = (BTreeMap::new(), vec![ROOT]);
        while let Some(number) = open.pop() {
            if let Some(node) = self.nodes.remove(&number) {
                if let Kind::Folder(folder) = &node.kind {
                    open.extend(folder.current.values());
                }
                reached.insert(number, node);
            }
        }
        self.nodes = reached;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_some_of_the_rest_in_whole_sectors() {
        let (disk, mut random) = (Disk::new(), StdRng::seed_from_u64(7));
        let name = OsStr::new("file");
        let number = disk.with(|disk| {
            let number = disk.make(ROOT, name, Kind::File(File::default()), 0o644).unwrap();
            disk.write(number, 0, &[1; 4096]).unwrap();
            disk.sync(number).unwrap();
            disk.sync(ROOT).unwrap();
            number
        });
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for _ in 0..100 {
            disk.with(|disk| disk.write(number, 100, &[2; 3000]).unwrap());
            disk.cut(&mut random);
            disk.with(|disk| {
                let content = &disk.file(number).unwrap().current;
                assert!(content[..100] == [1; 100] && content[3100..] == [1; 996], "what was synced was touched");
                let sectors: Vec<_> = content[100..3100].chunk_by(|a, b| a == b).map(|run| run[0]).collect();
                match sectors.as_slice() {
                    [1] => lost += 1,
                    [2] => kept += 1,
                    _ => torn += 1,
                }
                disk.write(number, 100, &[1; 3000]).unwrap();
                disk.sync(number).unwrap();
            });
        }
        assert!(kept > 10 && lost > 10 && torn > 10, "{kept} kept, {lost} lost, {torn} torn");
    }

    #[test]
    fn a_file_in_a_folder_that_was_not_synced_may_be_gone() {
        let mut gone = 0;
        for seed in 0..50 {
            let (disk, mut random) = (Disk::new(), StdRng::seed_from_u64(seed));
            disk.with(|disk| {
                let number = disk.make(ROOT, OsStr::new("file"), Kind::File(File::default()), 0o644).unwrap();
                disk.sync(number).unwrap();
            });
            disk.cut(&mut random);
            gone += usize::from(disk.with(|disk| disk.find(ROOT, OsStr::new("file"))).is_err());
        }
        assert!((10..40).contains(&gone), "gone {gone} times of 50");
    }

    #[test]
    fn a_failed_fsync_loses_what_it_was_for_though_reads_show_it_and_later_ones_succeed() {
        let (disk, mut random) = (Disk::new(), StdRng::seed_from_u64(1));
        let number = disk.with(|disk| disk.make(ROOT, OsStr::new("file"), Kind::File(File::default()), 0o644).unwrap());
        disk.with(|disk| disk.sync(ROOT).unwrap());
        disk.fail_fsync("file", 0);
        disk.with(|disk| {
            disk.write(number, 0, b"lost").unwrap();
            assert!(disk.sync(number).is_err() && disk.sync(number).is_ok());
            assert_eq!(disk.file(number).unwrap().current, b"lost");
        });
        disk.cut(&mut random);
        assert!(disk.with(|disk| disk.file(number).unwrap().current.is_empty()));
    }
}
