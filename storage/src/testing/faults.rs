//! A disk in memory that fails on command, for tests and the simulator. Deterministic: whatever is left to chance is
//! drawn from the seed that [`FaultDisk::restart`] is given.
//!
//! It keeps what was written apart from what is durable. When the power goes, each write that was not synced arrives
//! whole, in part, or not at all, cut at any 512 bytes, and in any order; files that were created, renamed or removed
//! without a sync of the directory may be back.
//!
//! There are two kinds: [`FaultDisk::new`] has a cache, and a sync that fails has lost what it was to write: the cache
//! goes on showing it, the disk never gets it, and the next sync says yes (as Linux does). [`FaultDisk::direct`] has
//! none, as with `O_DIRECT|O_DSYNC`: what the log has written is durable, and its syncs have nothing to do.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::journal::disk::{Access, Disk, DiskFile};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// What is to go wrong. Operations are writes, syncs, creations, renames, removals and syncs of the directory, counted
/// from 1 since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// This operation fails with `EIO`. A write may have happened in part.
    pub eio_at: Option<u64>,
    /// The power goes during this operation: it may have happened in part, and every later one fails.
    pub crash_at: Option<u64>,
    /// How many bytes can still be allocated.
    pub room: Option<u64>,
    /// Syncs say yes and do nothing.
    pub lie_about_sync: bool,
    /// Whatever writes is refused.
    pub read_only: bool,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct FaultDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    faults: Faults,
    /// The log's own writes are durable as soon as they are made.
    direct: bool,
    operations: u64,
    off: bool,
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    renames: Vec<Naming>,
}

#[derive(Clone, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone)]
enum Pending {
    Length(usize),
    Write(usize, Vec<u8>),
}

#[derive(Clone)]
enum Naming {
    Created(String, usize),
    Removed(String),
    Renamed(String, String),
}

impl Default for FaultDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State::default())) }
    }

    /// An empty disk without faults, to which the log writes directly.
    pub fn direct() -> Self {
        Self { state: Arc::new(Mutex::new(State { direct: true, ..State::default() })) }
    }

    /// From now on these go wrong.
    pub fn set(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the power has gone.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// The power goes, and comes back: what was not durable is decided by `seed`. This disk stays dead; the new one
    /// has no faults.
    pub fn restart(&self, seed: u64) -> Self {
        let mut state = self.state();
        state.off = true;
        let mut chance = Chance(seed);
        let durable_names = state.durable_names.clone();
        let mut after = State { direct: state.direct, durable_names, ..State::default() };
        let named = chance.below(state.renames.len() as u64 + 1) as usize;
        state.renames[..named].iter().for_each(|naming| naming.apply(&mut after.durable_names));
        after.names = after.durable_names.clone();
        after.files = state.files.iter().map(|contents| contents.after_power_loss(&mut chance)).collect();
        Self { state: Arc::new(Mutex::new(after)) }
    }

    /// The process dies, the machine goes on: all that was written is there, durable or not. This disk stays dead.
    pub fn killed(&self) -> Self {
        let mut state = self.state();
        let after = State { faults: Faults::default(), operations: 0, off: false, ..state.clone() };
        state.off = true;
        Self { state: Arc::new(Mutex::new(after)) }
    }

    /// A file as it reads now.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|index| state.files[*index].now.clone())
    }

    /// Puts a durable file there.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        state.files.push(Contents { durable: bytes.clone(), now: bytes, pending: Vec::new() });
        let index = state.files.len() - 1;
        state.names.insert(name.to_owned(), index);
        state.durable_names.insert(name.to_owned(), index);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl State {
    /// Counts an operation that changes something. `Ok(true)`: it happens, and then the power goes.
    fn operate(&mut self) -> io::Result<Fate> {
        if self.off {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if self.faults.read_only {
            return Err(io::Error::from_raw_os_error(EROFS));
        }
        self.operations += 1;
        if self.faults.crash_at == Some(self.operations) {
            self.off = true;
            return Ok(Fate::Interrupted);
        }
        Ok(if self.faults.eio_at == Some(self.operations) { Fate::Interrupted } else { Fate::Done })
    }

    fn allocate(&mut self, bytes: usize) -> io::Result<()> {
        let Some(room) = &mut self.faults.room else { return Ok(()) };
        *room = room.checked_sub(bytes as u64).ok_or_else(|| io::Error::from_raw_os_error(ENOSPC))?;
        Ok(())
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.renames.push(naming);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

enum Fate {
    Done,
    Interrupted,
}

impl Fate {
    fn result(self) -> io::Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Interrupted => Err(io::Error::from_raw_os_error(EIO)),
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Created(name, index) => {
                names.insert(name.clone(), *index);
            }
            Self::Removed(name) => {
                names.remove(name);
            }
            Self::Renamed(from, to) => {
                if let Some(index) = names.remove(from) {
                    names.insert(to.clone(), index);
                }
            }
        }
    }
}

impl Contents {
    fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
        if bytes.len() < offset + data.len() {
            bytes.resize(offset + data.len(), 0);
        }
        bytes[offset..offset + data.len()].copy_from_slice(data);
    }

    fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
        match pending {
            Pending::Length(len) => bytes.resize(*len, 0),
            Pending::Write(offset, data) => Self::write(bytes, *offset, data),
        }
    }

    fn sync(&mut self) {
        for pending in self.pending.drain(..) {
            Self::apply(&mut self.durable, &pending);
        }
    }

    fn after_power_loss(&self, chance: &mut Chance) -> Self {
        let mut durable = self.durable.clone();
        let mut pending: Vec<&Pending> = self.pending.iter().collect();
        for index in (1..pending.len()).rev() {
            pending.swap(index, chance.below(index as u64 + 1) as usize);
        }
        for pending in pending {
            let Pending::Write(offset, data) = pending else {
                if chance.below(2) == 0 {
                    Self::apply(&mut durable, pending);
                }
                continue;
            };
            let sectors = data.len().div_ceil(SECTOR) as u64;
            let way = chance.below(4);
            let cut = chance.below(sectors + 1);
            for (index, sector) in data.chunks(SECTOR).enumerate() {
                let arrives = match way {
                    0 => false,
                    1 => true,
                    2 => (index as u64) < cut,
                    _ => chance.below(2) == 0,
                };
                if arrives {
                    Self::write(&mut durable, offset + index * SECTOR, sector);
                }
            }
        }
        Self { now: durable.clone(), durable, pending: Vec::new() }
    }
}

impl Disk for FaultDisk {
    type File = FaultFile;

    fn create(&self, name: &str, bytes: u64, access: Access) -> io::Result<FaultFile> {
        let mut state = self.state();
        let fate = state.operate()?;
        state.allocate(bytes as usize)?;
        let contents = Contents {
            now: vec![0; bytes as usize],
            durable: Vec::new(),
            pending: vec![Pending::Length(bytes as usize)],
        };
        state.files.push(contents);
        let index = state.files.len() - 1;
        state.name(Naming::Created(name.to_owned(), index));
        fate.result()?;
        Ok(FaultFile { disk: self.clone(), index, direct: state.direct && access == Access::Log })
    }

    fn open(&self, name: &str, access: Access) -> io::Result<FaultFile> {
        let state = self.state();
        if state.off {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let direct = state.direct && access == Access::Log;
        Ok(FaultFile { disk: self.clone(), index: state.find(name)?, direct })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.off {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(state.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.operate()?;
        state.find(name)?;
        state.name(Naming::Removed(name.to_owned()));
        fate.result()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.operate()?;
        state.find(from)?;
        state.name(Naming::Renamed(from.to_owned(), to.to_owned()));
        fate.result()
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?.result()?;
        state.durable_names = state.names.clone();
        state.renames.clear();
        Ok(())
    }

    fn release(&self) {}
}

/// A file of a [`FaultDisk`].
pub struct FaultFile {
    disk: FaultDisk,
    index: usize,
    direct: bool,
}

impl DiskFile for FaultFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let fate = state.operate()?;
        let end = offset as usize + bytes.len();
        let grown = end.saturating_sub(state.files[self.index].now.len());
        state.allocate(grown)?;
        let contents = &mut state.files[self.index];
        Contents::write(&mut contents.now, offset as usize, bytes);
        contents.pending.push(Pending::Write(offset as usize, bytes.to_vec()));
        fate.result()?;
        if self.direct && !state.faults.lie_about_sync {
            state.files[self.index].sync();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if self.direct && !state.off {
            return Ok(());
        }
        let synced = state.operate()?.result();
        if synced.is_err() && !state.off {
            state.files[self.index].pending.clear();
        }
        synced?;
        if !state.faults.lie_about_sync {
            state.files[self.index].sync();
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        if state.off {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let from = state.files[self.index].now.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(bytes.len());
        bytes[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.index].now.len() as u64)
    }
}

/// Chance that can be repeated: SplitMix64.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero. Its bias is below one in 2⁴⁰ for all that is asked here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_synced_is_sure_to_be_there() {
        let disk = FaultDisk::new();
        let file = disk.create("a", 4096, Access::Log).expect("created");
        file.write_at(0, &[1; 1024]).expect("written");
        file.sync().expect("synced");
        disk.sync_dir().expect("synced");
        file.write_at(1024, &[2; 3072]).expect("written");
        let (mut whole, mut none, mut part) = (0, 0, 0);
        for seed in 0..200 {
            let after = disk.clone().restart(seed).contents("a").expect("there");
            assert_eq!(after[..1024], [1; 1024]);
            match after[1024..].chunks(SECTOR).filter(|sector| sector[0] == 2).count() {
                0 => none += 1,
                6 => whole += 1,
                _ => part += 1,
            }
        }
        assert!(whole > 20 && none > 20 && part > 20, "{whole} {none} {part}");
    }

    #[test]
    fn a_name_that_was_not_synced_may_be_gone() {
        let disk = FaultDisk::new();
        disk.create("a", 0, Access::Log).expect("created");
        let there = (0..50).filter(|seed| disk.restart(*seed).contents("a").is_some()).count();
        assert!(there > 5 && there < 45, "{there}");
    }
}
