//! What is checked when a partition is opened.
//!
//! - The last segment: every batch. What follows the last good one is a torn write, which was never acknowledged, and is cut; unless a frame
//!   of this log stands behind it, which shows that it was durable once: that is damage, and the partition does not open.
//! - Every other segment: that its seal names the segment that follows. Its batches are checked when they are read. One without a seal (the
//!   crash came before it) is checked like the last one, must end where its successor begins, and is sealed.
//!
//! Oldest segments that are missing look as if they were trimmed: a reader that still wanted them is told so.

use crate::embedded::disk::Disk;
use crate::embedded::frame::{Flaw, Frames, HEADER_BYTES, Header, Marker, damaged};
use crate::embedded::layout::{self, io_error};
use crate::embedded::segment::Segment;
use crate::error::LogError;
use millstream_model::name::Offset;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

/// A partition as it was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) next: Offset,
    /// The last segment, to write to.
    pub(crate) file: File,
}

/// How far a file's batches are good.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Where the last good batch ends.
    pub(crate) end: u64,
    /// The offset behind it.
    pub(crate) next: Offset,
    /// Whether a seal stands there.
    pub(crate) sealed: bool,
    /// What stands there instead of a batch, a seal or the end of the file.
    pub(crate) flaw: Option<&'static str>,
}

/// Checks every batch of a segment from a place on, and lets the segment remember where they stand.
///
/// # Errors
/// If the file cannot be read, or a frame of this log stands in a place that no crash puts it.
pub(crate) fn scan(
    frames: &mut Frames,
    segment: &Segment,
    mut next: Offset,
    end: u64,
) -> Result<Scan, LogError> {
    loop {
        let at = frames.at();
        let found = |sealed, flaw| Ok(Scan { end: at, next, sealed, flaw });
        let verified = match frames.header(end) {
            Ok(None) => return found(false, None),
            Ok(Some(header)) if header.first != next => {
                return Err(damaged(
                    &segment.path,
                    at,
                    format!("offset {} stands where {next} is due", header.first),
                ));
            }
            Ok(Some(header)) if header.is_seal() => return found(true, None),
            Ok(Some(header)) => frames.records(&header, end).map(|_| header),
            Err(flaw) => Err(flaw),
        };
        match verified {
            Ok(header) => {
                segment.note(next, at);
                next = header.next();
            }
            Err(Flaw::Found { detail, .. }) => return found(false, Some(detail)),
            Err(flaw) => return Err(flaw.in_file(&segment.path)),
        }
    }
}

/// Like [`scan`], but steps over the bodies of all batches that something follows: only what stands at the end can be torn. Whoever reads a batch verifies it.
///
/// # Errors
/// As [`scan`].
pub(crate) fn skim(
    frames: &mut Frames,
    segment: &Segment,
    mut next: Offset,
    end: u64,
) -> Result<Scan, LogError> {
    while let Ok(Some(header)) = frames.header(end)
        && header.first == next
        && !header.is_seal()
        && frames.at() + header.frame_bytes() < end
    {
        segment.note(next, frames.at());
        next = header.next();
        frames.skip(&header);
    }
    scan(frames, segment, next, end)
}

/// The first place behind `after` where a frame of this log begins, whole or not.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn frame_behind(
    frames: &mut Frames,
    marker: Marker,
    after: u64,
    end: u64,
) -> Result<Option<u64>, Flaw> {
    let mut at = after + 1;
    while at + HEADER_BYTES <= end {
        let bytes = frames.fetch(at, (64 * 1024).min(end - at), end)?;
        let mut candidates = bytes.windows(HEADER_BYTES as usize).enumerate();
        if let Some((skip, _)) = candidates.find(|(_, window)| Header::decode(marker, window).is_ok()) {
            return Ok(Some(at + skip as u64));
        }
        at += bytes.len() as u64 - (HEADER_BYTES - 1);
    }
    Ok(None)
}

/// The seal at the end of a file.
pub(crate) fn seal_at_end(frames: &mut Frames, end: u64) -> Result<Option<Header>, Flaw> {
    frames.seek(end.saturating_sub(HEADER_BYTES));
    match frames.header(end) {
        Ok(header) => Ok(header.filter(Header::is_seal)),
        Err(Flaw::Found { .. }) => Ok(None),
        Err(flaw) => Err(flaw),
    }
}

/// Opens a partition's segments, cuts a torn tail, and refuses what is damaged.
///
/// # Errors
/// [`LogError::Damaged`], or if the files cannot be read or cut.
pub(crate) fn recover(dir: &Path, marker: Marker, disk: &dyn Disk) -> Result<Recovered, LogError> {
    let firsts = layout::segments(dir)?;
    let Some((last, older)) = firsts.split_last() else {
        return Err(layout::no_segment(dir));
    };
    let mut segments = Vec::with_capacity(firsts.len());
    for (first, following) in older.iter().zip(firsts.iter().skip(1)) {
        segments.push(Arc::new(check_older(dir, *first, *following, marker, disk)?));
    }
    let (segment, next, file) = check_last(dir, *last, marker, disk)?;
    segments.push(Arc::new(segment));
    Ok(Recovered { segments, next, file })
}

fn open(path: &Path) -> Result<(File, u64), LogError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error("open", path))?;
    let length = file.metadata().map_err(io_error("open", path))?.len();
    Ok((file, length))
}

fn frames(file: &File, path: &Path, marker: Marker) -> Result<Frames, LogError> {
    Ok(Frames::new(file.try_clone().map_err(io_error("open", path))?, marker, 0))
}

fn check_older(
    dir: &Path,
    first: Offset,
    following: Offset,
    marker: Marker,
    disk: &dyn Disk,
) -> Result<Segment, LogError> {
    let segment = Segment::new(dir, first, 0);
    let (file, length) = open(&segment.path)?;
    let mut frames = frames(&file, &segment.path, marker)?;
    let missing = |next, at| {
        damaged(
            &segment.path,
            at,
            format!("it ends before offset {next}, and the next segment begins at {following}"),
        )
    };
    if let Some(seal) = seal_at_end(&mut frames, length).map_err(|flaw| flaw.in_file(&segment.path))? {
        segment.set_end(length - HEADER_BYTES);
        return if seal.first == following { Ok(segment) } else { Err(missing(seal.first, length)) };
    }
    frames.seek(0);
    let scan = scan(&mut frames, &segment, first, length)?;
    if scan.next != following {
        return Err(match scan.flaw {
            Some(flaw) => damaged(&segment.path, scan.end, flaw.to_owned()),
            None => missing(scan.next, scan.end),
        });
    }
    // All that was due is there. Behind it stands at most a seal that was torn.
    segment.set_end(scan.end);
    tracing::info!(path = %segment.path.display(), end = scan.end, "sealing a segment that a crash left open");
    disk.cut(&file, scan.end).map_err(io_error("cut", &segment.path))?;
    seal(&file, &segment, following, marker, disk);
    Ok(segment)
}

fn check_last(
    dir: &Path,
    first: Offset,
    marker: Marker,
    disk: &dyn Disk,
) -> Result<(Segment, Offset, File), LogError> {
    let segment = Segment::new(dir, first, 0);
    let (file, length) = open(&segment.path)?;
    let mut frames = frames(&file, &segment.path, marker)?;
    let scan = scan(&mut frames, &segment, first, length)?;
    if scan.sealed {
        return Err(damaged(
            &segment.path,
            scan.end,
            format!("the segment that follows, from offset {}, is missing", scan.next),
        ));
    }
    if let Some(flaw) = scan.flaw {
        let behind = frame_behind(&mut frames, marker, scan.end, length)
            .map_err(|flaw| flaw.in_file(&segment.path))?;
        if let Some(behind) = behind {
            return Err(damaged(
                &segment.path,
                scan.end,
                format!("{flaw}, and more batches follow at byte {behind}"),
            ));
        }
        let bytes = length - scan.end;
        tracing::warn!(path = %segment.path.display(), at = scan.end, bytes, "cutting a write that was not completed");
        disk.cut(&file, scan.end).map_err(io_error("cut", &segment.path))?;
    }
    segment.set_end(scan.end);
    Ok((segment, scan.next, file))
}

/// Ends a segment. Without its seal it only takes longer to open the log, so a failure is no more than worth a line.
pub(crate) fn seal(file: &File, segment: &Segment, next: Offset, marker: Marker, disk: &dyn Disk) {
    let sealed =
        disk.write(file, &Header::seal(next).encode(marker), segment.end()).and_then(|()| disk.sync(file));
    if let Err(error) = sealed {
        tracing::warn!(path = %segment.path.display(), %error, "a full segment could not be sealed; the next start will check all of it");
    }
}
