//! Looking into a log that another process may be writing: without its lock, and without changing anything.
//!
//! What is seen may be a little ahead of what the owner has made durable: a batch that was written and whose sync is still under way. A batch
//! that is not complete is the end. To find the end, only the last batch is verified; the others are when they are read.

use crate::api::{Bounds, ReadLimit};
use crate::embedded::frame::{Frames, Marker};
use crate::embedded::layout::{self, io_error};
use crate::embedded::reader::Cursor;
use crate::embedded::recovery;
use crate::embedded::segment::Segment;
use crate::error::LogError;
use millstream_model::name::{Offset, TopicPartition};
use millstream_model::record::Stored;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How often segments may have gone between the list of them and the look at them: an owner that trims takes longer for each than a look.
const LOOKS_MAX: usize = 16;

/// A look into a log from outside.
#[derive(Debug)]
pub struct Peek {
    dir: PathBuf,
    /// What earlier calls found, so that the next need not search from the beginning.
    seen: Mutex<BTreeMap<TopicPartition, Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    segments: Vec<Arc<Segment>>,
    next: Offset,
}

impl Seen {
    fn bounds(&self) -> Bounds {
        Bounds { first: self.segments.first().map_or(self.next, |segment| segment.first), next: self.next }
    }
}

impl Peek {
    /// Looks at a directory. There need not be a log in it yet: then there are no topics.
    ///
    /// # Errors
    /// If the directory does not exist or what is in it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let peek = Self { dir: dir.to_owned(), seen: Mutex::default() };
        peek.topics()?;
        Ok(peek)
    }

    /// The partitions of all topics that were ever made.
    ///
    /// # Errors
    /// If the directories cannot be read.
    pub fn topics(&self) -> Result<Vec<TopicPartition>, LogError> {
        let mut found = Vec::new();
        for topic in layout::topics(&self.dir)? {
            found.extend(layout::partitions(&self.dir, &topic)?);
        }
        Ok(found)
    }

    /// First and next offset of a partition.
    ///
    /// # Errors
    /// If the partition's files cannot be read or are damaged.
    pub fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        self.look(partition).map(|seen| seen.bounds())
    }

    /// The records from an offset on, at most the limit; none at the end.
    ///
    /// # Errors
    /// [`LogError::Trimmed`], [`LogError::BeyondEnd`], [`LogError::Damaged`], or if the files cannot be read.
    pub fn read(
        &self,
        partition: &TopicPartition,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, LogError> {
        let outcome = self.read_once(partition, from, limit);
        match outcome {
            // The owner may have trimmed what was seen, or cut a write that failed: look again, from the beginning.
            Err(LogError::Damaged { .. } | LogError::Io { .. }) => {
                self.forget(partition);
                self.read_once(partition, from, limit)
            }
            outcome => outcome,
        }
    }

    fn read_once(
        &self,
        partition: &TopicPartition,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, LogError> {
        let seen = self.look(partition)?;
        let bounds = seen.bounds();
        bounds.check(partition, from)?;
        Cursor::new(from).read(self.marker()?, &seen.segments, bounds.next, limit)
    }

    fn marker(&self) -> Result<Marker, LogError> {
        layout::marker(&self.dir)?
            .ok_or_else(|| io_error("find a log in", &self.dir)(io::ErrorKind::NotFound.into()))
    }

    /// Which segments there are now and where the last one ends.
    fn look(&self, partition: &TopicPartition) -> Result<Seen, LogError> {
        let mut looks = 1;
        loop {
            match self.look_once(partition) {
                // The owner has trimmed a segment between the list and the look at it.
                Err(LogError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && looks < LOOKS_MAX =>
                {
                    looks += 1;
                }
                looked => return looked,
            }
        }
    }

    fn look_once(&self, partition: &TopicPartition) -> Result<Seen, LogError> {
        let dir = layout::partition_dir(&self.dir, partition);
        let marker = self.marker()?;
        let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(partition).cloned();
        let firsts = layout::segments(&dir)?;
        let Some(last) = firsts.last() else {
            return Err(layout::no_segment(&dir));
        };
        let mut segments = Vec::with_capacity(firsts.len());
        for first in &firsts {
            let known = known.iter().flat_map(|seen| &seen.segments).find(|segment| segment.first == *first);
            let segment = known.cloned().unwrap_or_else(|| Arc::new(Segment::new(&dir, *first, 0)));
            segment.set_end(fs::metadata(&segment.path).map_err(io_error("look at", &segment.path))?.len());
            segments.push(segment);
        }
        let mut next = *last;
        if let Some(segment) = segments.last() {
            let (offset, at) = segment.nearest(Offset(i64::MAX));
            let file = File::open(&segment.path).map_err(io_error("open", &segment.path))?;
            let mut frames = Frames::new(file, marker, at);
            let scan = recovery::skim(&mut frames, segment, offset, segment.end())?;
            segment.set_end(scan.end);
            next = scan.next;
        }
        let seen = Seen { segments, next };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.clone(), seen.clone());
        Ok(seen)
    }

    fn forget(&self, partition: &TopicPartition) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(partition);
    }
}
