//! Reading a partition forwards, behind the durable end.

use crate::api::{Bounds, LogReader, ReadLimit};
use crate::embedded::frame::{Frames, Marker, Records, damaged};
use crate::embedded::layout::io_error;
use crate::embedded::partition::Partition;
use crate::embedded::segment::{Segment, holding};
use crate::error::LogError;
use async_trait::async_trait;
use millstream_model::name::Offset;
use millstream_model::record::Stored;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// A place in a partition from where records are read one after another.
#[derive(Debug)]
pub(crate) struct Cursor {
    offset: Offset,
    place: Option<Place>,
    /// What is left of the batch that was read last.
    rest: Option<Records>,
    /// A record that was read and did not fit the limit.
    held: Option<Stored>,
}

/// Where the next batch begins.
#[derive(Debug)]
struct Place {
    segment: Arc<Segment>,
    frames: Frames,
}

impl Cursor {
    pub(crate) fn new(offset: Offset) -> Self {
        Self { offset, place: None, rest: None, held: None }
    }

    /// The records from here on that lie before `next`, as many as the limit allows, one at least if there is one.
    ///
    /// # Errors
    /// If nothing could be read before the failure; otherwise the next call has the error.
    pub(crate) fn read(
        &mut self,
        marker: Marker,
        segments: &[Arc<Segment>],
        next: Offset,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, LogError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while self.offset < next && (records.len() < limit.records || records.is_empty()) {
            let stored = match self.take(marker, segments) {
                Ok(stored) => stored,
                Err(error) if records.is_empty() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "the next read will fail");
                    break;
                }
            };
            bytes += stored.record.size();
            if bytes > limit.bytes && !records.is_empty() {
                self.held = Some(stored);
                break;
            }
            self.offset = stored.offset.next();
            records.push(stored);
        }
        Ok(records)
    }

    /// The record at the cursor's offset.
    fn take(&mut self, marker: Marker, segments: &[Arc<Segment>]) -> Result<Stored, LogError> {
        if let Some(stored) = self.held.take() {
            return Ok(stored);
        }
        loop {
            if self.rest.is_none() {
                self.rest = Some(self.next_batch(marker, segments)?);
            }
            match self.rest.as_mut().and_then(Iterator::next) {
                Some(Ok(stored)) if stored.offset < self.offset => {}
                Some(Ok(stored)) => return Ok(stored),
                Some(Err(flaw)) => {
                    let path =
                        self.place.as_ref().map(|place| place.segment.path.clone()).unwrap_or_default();
                    self.place = None;
                    self.rest = None;
                    return Err(flaw.in_file(&path));
                }
                None => self.rest = None,
            }
        }
    }

    /// The batch that holds the cursor's offset.
    fn next_batch(&mut self, marker: Marker, segments: &[Arc<Segment>]) -> Result<Records, LogError> {
        let offset = self.offset;
        let mut place = match self.place.take() {
            Some(place) if place.frames.at() < place.segment.end() => place,
            _ => find(marker, segments, offset)?,
        };
        loop {
            let path = &place.segment.path;
            let (at, end) = (place.frames.at(), place.segment.end());
            let header = place.frames.header(end).map_err(|flaw| flaw.in_file(path))?;
            let Some(header) = header.filter(|header| header.first <= offset) else {
                return Err(damaged(path, at, format!("offset {offset} is missing")));
            };
            if header.is_seal() {
                // Only somebody who looks from outside meets it; the owner knows where its segments end.
                let follows = holding(segments, offset).is_some_and(|segment| segment.first == header.first);
                if !follows {
                    return Err(damaged(path, at, format!("offset {offset} is missing")));
                }
                place = find(marker, segments, offset)?;
                continue;
            }
            place.segment.note(header.first, at);
            if header.next() > offset {
                let records = place.frames.records(&header, end).map_err(|flaw| flaw.in_file(path))?;
                self.place = Some(place);
                return Ok(records);
            }
            place.frames.skip(&header);
        }
    }
}

fn find(marker: Marker, segments: &[Arc<Segment>], offset: Offset) -> Result<Place, LogError> {
    let Some(segment) = holding(segments, offset) else {
        return Err(io_error("find segment", Path::new(""))(io::ErrorKind::NotFound.into()));
    };
    let file = File::open(&segment.path).map_err(io_error("open", &segment.path))?;
    let (_, at) = segment.nearest(offset);
    Ok(Place { segment: Arc::clone(segment), frames: Frames::new(file, marker, at) })
}

/// A reader of a partition of an open log.
#[derive(Debug)]
pub(crate) struct Reader {
    partition: Arc<Partition>,
    bounds: watch::Receiver<Bounds>,
    offset: Offset,
    /// Away while a read is under way. A call that is dropped takes it along, and the next one begins anew from the offset.
    cursor: Option<Cursor>,
}

impl Reader {
    pub(crate) fn new(partition: Arc<Partition>, from: Offset) -> Self {
        Self { bounds: partition.watch(), partition, offset: from, cursor: None }
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError> {
        let offset = self.offset;
        let bounds = match self.bounds.wait_for(|bounds| bounds.next > offset || bounds.first > offset).await
        {
            Ok(bounds) => *bounds,
            Err(_) => {
                return Err(io_error("read", &self.partition.dir)(io::Error::other("the log is closed")));
            }
        };
        let trimmed =
            |first| LogError::Trimmed { partition: self.partition.name.clone(), wanted: offset, first };
        if bounds.first > offset {
            return Err(trimmed(bounds.first));
        }
        let partition = Arc::clone(&self.partition);
        let mut cursor = self.cursor.take().unwrap_or_else(|| Cursor::new(offset));
        let read = tokio::task::spawn_blocking(move || {
            let records = cursor.read(partition.marker, &partition.segments(), bounds.next, limit);
            (cursor, records)
        });
        let (cursor, records) = match read.await {
            Ok(done) => done,
            Err(error) => return Err(io_error("read", &self.partition.dir)(io::Error::other(error))),
        };
        match records {
            Ok(records) => {
                self.cursor = Some(cursor);
                self.offset = records.last().map_or(offset, |last| last.offset.next());
                Ok(records)
            }
            // The segment may have gone while it was read.
            Err(_) if self.partition.bounds().first > offset => Err(trimmed(self.partition.bounds().first)),
            Err(error) => Err(error),
        }
    }
}
