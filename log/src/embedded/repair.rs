//! Mending a damaged log by hand, which is `millstream log repair`: it keeps every batch that can still be read, and a copy of each file it changes.
//!
//! Offsets stay what they were: in the place of each record that is lost there is an empty one with the header [`LOST`], so that whoever
//! reads the log meets the loss and counts it, and nothing that was acknowledged later moves.

use crate::embedded::disk::{Disk, LocalDisk, sync_dir};
use crate::embedded::frame::{Batch, Flaw, Frames, HEADER_BYTES, Header, Marker, damaged};
use crate::embedded::layout::{self, Lock, io_error};
use crate::embedded::recovery;
use crate::error::LogError;
use bytes::Bytes;
use millstream_model::name::{Offset, TopicPartition};
use millstream_model::record::Record;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Name of the header, without value, of a record that stands for one that was lost.
pub const LOST: &str = "millstream.lost";

/// So many lost records go into one batch.
const LOST_BATCH: i64 = 65_536;

/// What a repair did. Empty if there was nothing to mend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// One for each file that was changed.
    pub repairs: Vec<Repair>,
}

/// What was done to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The file.
    pub path: PathBuf,
    /// What was wrong and what was done.
    pub done: String,
    /// Records that are known to be lost.
    pub lost: u64,
    /// The file as it was before.
    pub copy: Option<PathBuf>,
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.repairs.is_empty() {
            return writeln!(f, "nothing to repair");
        }
        for Repair { path, done, lost, copy } in &self.repairs {
            writeln!(f, "{}: {done}; {lost} records are lost", path.display())?;
            if let Some(copy) = copy {
                writeln!(f, "  a copy of what it was is in {}", copy.display())?;
            }
        }
        Ok(())
    }
}

/// Mends a log that does not open because it is damaged. Checks every batch of every segment, so it also finds what only a reader would meet.
///
/// # Errors
/// [`LogError::InUse`] if a process has the log open, [`LogError::Damaged`] for what cannot be mended, or if the disk fails.
pub fn repair(dir: &Path) -> Result<RepairReport, LogError> {
    let _lock = Lock::take(dir)?;
    layout::remove_unfinished(dir)?;
    let mut report = RepairReport::default();
    let known = match layout::marker(dir) {
        Ok(None) => return Ok(report),
        Err(error) if !matches!(error, LogError::Damaged { .. }) => return Err(error),
        known => known,
    };
    for topic in layout::topics(dir)? {
        if layout::recount_partitions(dir, &topic)? {
            let path = dir.join(topic.as_str()).join(layout::PARTITIONS);
            report.repairs.push(rewritten(path, "the partitions were counted"));
        }
    }
    let marker = match known {
        Ok(Some(marker)) => marker,
        unknown => {
            let found = find_marker(dir)?.map_or_else(|| unknown.map(|_| layout::random_marker()), Ok)?;
            layout::write_marker(dir, found)?;
            report
                .repairs
                .push(rewritten(dir.join(layout::FORMAT), "the log's marker was read from its segments"));
            found
        }
    };
    for topic in layout::topics(dir)? {
        for name in layout::partitions(dir, &topic)? {
            repair_partition(dir, &name, marker, &mut report)?;
        }
    }
    Ok(report)
}

fn rewritten(path: PathBuf, done: &str) -> Repair {
    Repair { path, done: format!("the file was missing or damaged; {done}"), lost: 0, copy: None }
}

/// The marker that the log's first frames begin with. A log without any frame gets a new one.
fn find_marker(dir: &Path) -> Result<Option<Marker>, LogError> {
    let mut empty = true;
    for topic in layout::topics(dir)? {
        for partition in layout::partitions(dir, &topic)? {
            let partition_dir = layout::partition_dir(dir, &partition);
            for first in layout::segments(&partition_dir)? {
                let path = partition_dir.join(layout::segment_name(first));
                let file = File::open(&path).map_err(io_error("open", &path))?;
                empty &= file.metadata().map_err(io_error("open", &path))?.len() == 0;
                let mut head = [0; HEADER_BYTES as usize];
                if file.read_exact_at(&mut head, 0).is_ok()
                    && let Some(marker) = head.first_chunk().copied().map(Marker)
                    && Header::decode(marker, &head).is_ok()
                {
                    return Ok(Some(marker));
                }
            }
        }
    }
    Ok(empty.then(layout::random_marker))
}

fn repair_partition(
    dir: &Path,
    name: &TopicPartition,
    marker: Marker,
    report: &mut RepairReport,
) -> Result<(), LogError> {
    let dir = layout::partition_dir(dir, name);
    let firsts = layout::segments(&dir)?;
    if firsts.is_empty() {
        return Err(layout::no_segment(&dir));
    }
    for (index, first) in firsts.iter().enumerate() {
        let path = dir.join(layout::segment_name(*first));
        let until = firsts.get(index + 1).copied();
        let salvage = Salvage::of(&path, *first, until, marker)?;
        if let Some(flaw) = &salvage.flaw {
            let copy = keep_copy(&path)?;
            salvage.write(&path, marker)?;
            report.repairs.push(Repair {
                path: path.clone(),
                done: flaw.clone(),
                lost: salvage.lost(),
                copy: Some(copy),
            });
        }
        if until.is_none() && salvage.sealed {
            let following = dir.join(layout::segment_name(salvage.next));
            LocalDisk.create(&following).map_err(io_error("make", &following))?;
            let done = "the segment was missing with all that followed; an empty one was made, and how many records it had is not known";
            report.repairs.push(Repair { path: following, done: done.to_owned(), lost: 0, copy: None });
        }
    }
    Ok(())
}

/// What can be kept of a segment.
#[derive(Debug)]
struct Salvage {
    pieces: Vec<Piece>,
    next: Offset,
    sealed: bool,
    /// What was wrong first.
    flaw: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Piece {
    /// Bytes of the file.
    Kept { at: u64, bytes: u64 },
    /// Offsets whose records are gone; the last is not included.
    Lost { from: Offset, to: Offset },
}

impl Salvage {
    /// Reads all of a segment, whose successor begins at `until`.
    fn of(path: &Path, first: Offset, until: Option<Offset>, marker: Marker) -> Result<Self, LogError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let end = file.metadata().map_err(io_error("open", path))?.len();
        let mut frames = Frames::new(file, marker, 0);
        let mut salvage = Self { pieces: Vec::new(), next: first, sealed: false, flaw: None };
        loop {
            let at = frames.at();
            match salvage.good_frame(&mut frames, until, end) {
                Ok(None) => break,
                Ok(Some(header)) => salvage.keep(&header, at),
                Err(Flaw::Found { at, detail }) => {
                    salvage.note(at, detail);
                    match recovery::frame_behind(&mut frames, marker, at, end)
                        .map_err(|flaw| flaw.in_file(path))?
                    {
                        Some(behind) => frames.seek(behind),
                        None => break,
                    }
                }
                Err(flaw) => return Err(flaw.in_file(path)),
            }
        }
        if let Some(until) = until {
            if salvage.next > until {
                return Err(damaged(
                    path,
                    end,
                    format!("it reaches to offset {}, but the next segment begins at {until}", salvage.next),
                ));
            }
            salvage.lose(until, end);
        }
        Ok(salvage)
    }

    /// The verified frame here; steps over it.
    fn good_frame(
        &self,
        frames: &mut Frames,
        until: Option<Offset>,
        end: u64,
    ) -> Result<Option<Header>, Flaw> {
        let at = frames.at();
        let Some(header) = frames.header(end)? else { return Ok(None) };
        if header.first < self.next || until.is_some_and(|until| header.next() > until) {
            return Err(Flaw::Found { at, detail: "a batch has another offset than is due" });
        }
        for record in frames.records(&header, end)? {
            record?;
        }
        Ok(Some(header))
    }

    fn keep(&mut self, header: &Header, at: u64) {
        self.lose(header.first, at);
        self.sealed = header.is_seal();
        if !self.sealed {
            self.pieces.push(Piece::Kept { at, bytes: header.frame_bytes() });
        }
        self.next = header.next();
    }

    /// Marks the records from the next one to `to` as lost, if there are any.
    fn lose(&mut self, to: Offset, at: u64) {
        if self.next < to {
            self.note(at, "records are missing");
            self.pieces.push(Piece::Lost { from: self.next, to });
            self.next = to;
        }
    }

    fn note(&mut self, at: u64, detail: &str) {
        self.flaw.get_or_insert_with(|| format!("at byte {at}, {detail}; what could be read was kept"));
    }

    fn lost(&self) -> u64 {
        let lost = self.pieces.iter().map(|piece| match piece {
            Piece::Lost { from, to } => to.0.abs_diff(from.0),
            Piece::Kept { .. } => 0,
        });
        lost.sum()
    }

    /// Puts what was kept in the place of the file, durably and all at once. The next start seals it where a seal is due.
    fn write(&self, path: &Path, marker: Marker) -> Result<(), LogError> {
        let unfinished = path.with_extension("mended");
        let write = || {
            let source = File::open(path)?;
            let mut target = io::BufWriter::new(File::create(&unfinished)?);
            for piece in &self.pieces {
                match *piece {
                    Piece::Kept { at, bytes } => {
                        let mut frame = vec![0; bytes as usize];
                        source.read_exact_at(&mut frame, at)?;
                        target.write_all(&frame)?;
                    }
                    Piece::Lost { from, to } => write_lost(&mut target, marker, from, to)?,
                }
            }
            if self.sealed {
                target.write_all(&Header::seal(self.next).encode(marker))?;
            }
            target.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&unfinished, path)?;
            sync_dir(path.parent().unwrap_or(path))
        };
        write().map_err(io_error("write", path))
    }
}

fn write_lost(target: &mut impl Write, marker: Marker, from: Offset, to: Offset) -> io::Result<()> {
    let record = Record { headers: vec![(LOST.to_owned(), Bytes::new())], ..Record::default() };
    let mut batch = Batch::default();
    let mut first = from;
    while first < to {
        let count = LOST_BATCH.min(to.0 - first.0);
        (0..count).for_each(|_| batch.push(&record));
        target.write_all(batch.finish(marker, first))?;
        batch.clear();
        first = Offset(first.0 + count);
    }
    Ok(())
}

/// Copies a file beside itself, under a name that is not taken, durably.
fn keep_copy(path: &Path) -> Result<PathBuf, LogError> {
    let mut copy = path.with_extension("damaged");
    let mut number = 1;
    while copy.exists() {
        number += 1;
        copy = path.with_extension(format!("damaged-{number}"));
    }
    let keep = || {
        fs::copy(path, &copy)?;
        File::open(&copy)?.sync_all()?;
        sync_dir(path.parent().unwrap_or(path))
    };
    keep().map_err(io_error("copy", path))?;
    Ok(copy)
}
