//! One partition: what readers share of it, and its writing side, which only the writer thread has.

use crate::api::Bounds;
use crate::embedded::EmbeddedSettings;
use crate::embedded::disk::{Disk, sync_dir};
use crate::embedded::frame::{Batch, Frames, Marker};
use crate::embedded::layout::{self, io_error};
use crate::embedded::recovery::{self, Recovered};
use crate::embedded::segment::{Segment, Segments};
use crate::error::LogError;
use millstream_model::name::{Offset, TopicPartition};
use millstream_model::record::Record;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// What readers know of a partition. The writer thread changes it, segments before bounds, so that who sees a bound finds its segment.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    pub(crate) dir: PathBuf,
    pub(crate) marker: Marker,
    segments: RwLock<Segments>,
    bounds: watch::Receiver<Bounds>,
}

impl Partition {
    pub(crate) fn segments(&self) -> Segments {
        Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn bounds(&self) -> Bounds {
        *self.bounds.borrow()
    }

    /// Hears of new bounds until the log is closed.
    pub(crate) fn watch(&self) -> watch::Receiver<Bounds> {
        self.bounds.clone()
    }

    fn set_segments(&self, segments: Segments) {
        *self.segments.write().unwrap_or_else(PoisonError::into_inner) = segments;
    }
}

/// Why a batch did not become durable.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// Nothing of it is left.
    Undone(LogError),
    /// It could not be undone yet, so the next start may find it.
    Left(LogError),
}

impl Failure {
    pub(crate) fn error(&self) -> &LogError {
        let (Self::Undone(error) | Self::Left(error)) = self;
        error
    }
}

/// The writing side of a partition.
#[derive(Debug)]
pub(crate) struct PartitionWriter {
    partition: Arc<Partition>,
    bounds: watch::Sender<Bounds>,
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    reserve_bytes: u64,
    segment: Arc<Segment>,
    file: File,
    batch: Batch,
    /// A new segment was begun and not completed: nothing may be written to the old one any more, because the new one's name may stand already.
    roll_due: bool,
    /// Set while a failed write is not undone. Nothing is written meanwhile.
    failed: Option<LogError>,
}

impl PartitionWriter {
    /// Opens a partition and checks it.
    pub(crate) fn open(
        log: &Path,
        name: TopicPartition,
        marker: Marker,
        settings: &EmbeddedSettings,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, LogError> {
        let dir = layout::partition_dir(log, &name);
        let Recovered { segments, next, file } = recovery::recover(&dir, marker, &*disk)?;
        let (Some(oldest), Some(segment)) = (segments.first(), segments.last().cloned()) else {
            return Err(io_error("open", &dir)(io::ErrorKind::NotFound.into()));
        };
        let (bounds, receiver) = watch::channel(Bounds { first: oldest.first, next });
        let partition =
            Partition { name, dir, marker, segments: RwLock::new(segments.into()), bounds: receiver };
        Ok(Self {
            partition: Arc::new(partition),
            bounds,
            disk,
            segment_bytes: settings.segment_bytes,
            reserve_bytes: settings.reserve_bytes,
            segment,
            file,
            batch: Batch::default(),
            roll_due: false,
            failed: None,
        })
    }

    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Why nothing can be written.
    pub(crate) fn failed(&self) -> Option<&LogError> {
        self.failed.as_ref()
    }

    /// Tries again to undo a failed write that could not be undone.
    pub(crate) fn mend(&mut self) {
        if self.failed.is_some() {
            self.failed = self.restore().err();
        }
    }

    /// Puts a record into the batch and says which offset it will have.
    pub(crate) fn stage(&mut self, record: &Record) -> Offset {
        let offset = Offset(self.next().0 + i64::from(self.batch.count()));
        self.batch.push(record);
        offset
    }

    /// Makes the batch durable and lets readers see it; or leaves nothing of it.
    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut self.batch);
        let outcome = if batch.count() == 0 { Ok(()) } else { self.store(&mut batch) };
        batch.clear();
        self.batch = batch;
        outcome
    }

    fn store(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let full = self.segment.end() > 0 && self.segment.end() + batch.bytes() > self.segment_bytes;
        if full || self.roll_due {
            self.roll().map_err(Failure::Undone)?;
        }
        let (at, next) = (self.segment.end(), self.next());
        let frame = batch.finish(self.partition.marker, next);
        let stored = self.disk.write(&self.file, frame, at).and_then(|()| self.disk.sync(&self.file));
        if let Err(error) = stored {
            return Err(self.undo(error));
        }
        self.segment.note(next, at);
        self.segment.set_end(at + batch.bytes());
        self.bounds.send_modify(|bounds| bounds.next = Offset(next.0 + i64::from(batch.count())));
        Ok(())
    }

    /// Begins a new segment and seals the old one, in this order: a sealed segment always has a successor.
    fn roll(&mut self) -> Result<(), LogError> {
        self.roll_due = true;
        let segment = Arc::new(Segment::new(&self.partition.dir, self.next(), 0));
        let file =
            self.disk.create(&segment.path).map_err(|error| self.error("make", &segment.path, error))?;
        recovery::seal(&self.file, &self.segment, self.next(), self.partition.marker, &*self.disk);
        let segments = self.partition.segments().iter().cloned().chain([Arc::clone(&segment)]).collect();
        self.partition.set_segments(segments);
        self.segment = segment;
        self.file = file;
        self.roll_due = false;
        Ok(())
    }

    /// After a failed write or sync the pages count as lost, whatever a second sync would say: cuts back to what was durable before.
    fn undo(&mut self, error: io::Error) -> Failure {
        let error = self.error("write", &self.segment.path, error);
        let Err(second) = self.restore() else {
            return Failure::Undone(error);
        };
        tracing::error!(partition = %self.partition.name, %error, restore = %second, "a failed write could not be undone; the partition takes nothing until it is, which every append tries again");
        self.failed = Some(second);
        Failure::Left(error)
    }

    fn restore(&self) -> Result<(), LogError> {
        let path = &self.segment.path;
        let action = "restore after a failed write";
        let end = self.segment.end();
        self.disk.cut(&self.file, end).map_err(io_error(action, path))?;
        // Best effort: what is verified next should come from the disk and not from memory.
        if let Err(error) = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed) {
            tracing::debug!(%error, "cached pages stay");
        }
        let length = self.file.metadata().map_err(io_error(action, path))?.len();
        let (offset, at) = self.segment.nearest(self.next());
        let mut frames =
            Frames::new(self.file.try_clone().map_err(io_error(action, path))?, self.partition.marker, at);
        let scan = recovery::scan(&mut frames, &self.segment, offset, length)?;
        let whole = scan.end == end && scan.next == self.next() && scan.flaw.is_none();
        if whole {
            Ok(())
        } else {
            Err(io_error(action, path)(io::Error::other("it does not read back as it was")))
        }
    }

    /// Deletes the segments that hold nothing from `before` on, but the newest, which keeps the next offset.
    pub(crate) fn trim(&mut self, before: Offset) -> Result<(), LogError> {
        loop {
            let segments = self.partition.segments();
            let [oldest, second, ..] = &*segments else { return Ok(()) };
            if second.first > before {
                return Ok(());
            }
            // Bounds before file: a reader that finds the file gone finds out why. The list last: a removal that failed is tried again.
            let first = second.first;
            self.bounds.send_modify(|bounds| bounds.first = first);
            match fs::remove_file(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &oldest.path)(error));
                }
                _ => {}
            }
            // One by one, so that a crash leaves no gap between the segments that stay.
            sync_dir(&self.partition.dir).map_err(io_error("sync directory", &self.partition.dir))?;
            self.partition.set_segments(segments.iter().skip(1).cloned().collect());
        }
    }

    fn next(&self) -> Offset {
        self.bounds.borrow().next
    }

    fn error(&self, action: &'static str, path: &Path, error: io::Error) -> LogError {
        classify(&*self.disk, &self.partition.dir, self.reserve_bytes, io_error(action, path)(error))
    }
}

/// Tells a full disk from other failures.
pub(crate) fn classify(disk: &dyn Disk, dir: &Path, reserve: u64, error: LogError) -> LogError {
    let full = matches!(&error, LogError::Io { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
    if full {
        LogError::Full { path: dir.to_owned(), free: disk.free(dir).unwrap_or(0), reserve }
    } else {
        error
    }
}
