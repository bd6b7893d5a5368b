//! A disk that does what it is told: fail, be full, wait.

use crate::embedded::disk::{Disk, LocalDisk};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex};

/// Files are real; syncing is left out, because no test cuts the power.
#[derive(Debug, Default)]
pub(super) struct TestDisk {
    plan: Mutex<Plan>,
    changed: Condvar,
}

/// What is to happen. Failures happen once.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// After so many calls of `write` that work, one writes so many bytes and fails.
    pub(super) write: Option<(usize, usize, io::ErrorKind)>,
    pub(super) sync: Option<io::ErrorKind>,
    pub(super) cut: Option<io::ErrorKind>,
    /// Cutting says that it worked and did nothing.
    pub(super) cut_lies: bool,
    /// The name stands, but whether it is durable is not known.
    pub(super) create: Option<io::ErrorKind>,
    pub(super) sync_dir: Option<io::ErrorKind>,
    pub(super) free: Option<u64>,
    /// Writes wait.
    pub(super) held: bool,
    /// A write waits.
    waits: bool,
    /// Calls of `sync` so far.
    pub(super) syncs: usize,
}

impl TestDisk {
    pub(super) fn plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until a write is held.
    pub(super) fn caught(&self) {
        drop(self.changed.wait_while(self.plan.lock().unwrap(), |plan| !plan.waits).unwrap());
    }

    pub(super) fn syncs(&self) -> usize {
        self.plan.lock().unwrap().syncs
    }
}

fn fail(planned: Option<io::ErrorKind>) -> io::Result<()> {
    planned.map_or(Ok(()), |kind| Err(kind.into()))
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        fail(self.plan.lock().unwrap().create.take())?;
        Ok(file)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.plan(|plan| plan.waits = plan.held);
        let mut plan = self.changed.wait_while(self.plan.lock().unwrap(), |plan| plan.held).unwrap();
        plan.waits = false;
        match plan.write.take() {
            Some((0, part, kind)) => {
                LocalDisk.write(file, &bytes[..part.min(bytes.len())], at)?;
                Err(kind.into())
            }
            Some((before, part, kind)) => {
                plan.write = Some((before - 1, part, kind));
                LocalDisk.write(file, bytes, at)
            }
            None => LocalDisk.write(file, bytes, at),
        }
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        let mut plan = self.plan.lock().unwrap();
        plan.syncs += 1;
        fail(plan.sync.take())
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        fail(self.plan.lock().unwrap().cut.take())?;
        if self.plan.lock().unwrap().cut_lies { Ok(()) } else { file.set_len(length) }
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        fail(self.plan.lock().unwrap().sync_dir.take())
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.plan.lock().unwrap().free.unwrap_or(u64::MAX))
    }
}
