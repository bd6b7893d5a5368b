//! The recording that is played: hourly weather of three airports, and what of it is still to be published.

use crate::directory::Directory;
use anyhow::Context;
use chrono::{DateTime, Utc};
use flate2::read::GzDecoder;
use indicatif::HumanCount;
use millstream_model::time::Micros;
use std::collections::HashSet;
use std::path::PathBuf;

/// The recording itself: testdata/README.md says where it is from.
const RECORDING: &[u8] = include_bytes!("../../../../testdata/weather/weather.csv.gz");

/// Readings in it.
pub(super) const TOTAL: u64 = 26_115;

/// 2013-12-30T23:00:00Z, the newest reading.
const NEWEST: Micros = Micros(1_388_444_400_000_000);

/// Where the demonstration keeps what it needs, and the file there that says by how many hours it shifts.
const FOLDER: &str = "demo";
const NOTE: &str = "shift-hours";

const HOUR: i64 = 3_600_000_000;

/// Columns of the recording that make a reading what it is.
const STATION: usize = 0;
const TIME: usize = 14;

/// A station and an event time: no two readings share both.
pub(super) type Key = (String, Micros);

/// The recording in a directory, and by how much it is shifted there.
#[derive(Debug)]
pub(super) struct Recording {
    folder: PathBuf,
    shift_hours: i64,
}

/// What is to be published.
#[derive(Debug)]
pub(super) struct Missing {
    /// A CSV file.
    pub(super) file: PathBuf,
    /// Where its newest reading is shifted to.
    pub(super) end: Micros,
    /// Readings in it.
    pub(super) readings: u64,
}

impl Recording {
    /// Whether an earlier demo made this directory.
    pub(super) fn is_in(directory: &Directory) -> bool {
        directory.path().join(FOLDER).join(NOTE).is_file()
    }

    /// The recording as an earlier demo in this directory played it; else shifted so that it ends now, or as it was recorded.
    pub(super) fn open(directory: &Directory, as_recorded: bool) -> anyhow::Result<Self> {
        let folder = directory.path().join(FOLDER);
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let note = folder.join(NOTE);
        let shift_hours = match std::fs::read_to_string(&note) {
            Ok(text) => text
                .trim()
                .parse()
                .with_context(|| format!("{} does not hold a number of hours", note.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let hours =
                    if as_recorded { 0 } else { (Micros::from(Utc::now()).0 - NEWEST.0).div_euclid(HOUR) };
                std::fs::write(&note, hours.to_string())
                    .with_context(|| format!("failed to write {}", note.display()))?;
                hours
            }
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", note.display())),
        };
        Ok(Self { folder, shift_hours })
    }

    /// Whether event times are near now.
    pub(super) fn is_shifted(&self) -> bool {
        self.shift_hours != 0
    }

    /// What the readings are, in a line.
    pub(super) fn describe(&self) -> String {
        let shift = if self.is_shifted() {
            let end = shifted(NEWEST, self.shift_hours)
                .to_datetime()
                .map(|end| end.format("%Y-%m-%d %H:%M UTC").to_string());
            format!(
                "shifted by {} hours, so that the last is of {} (--as-recorded leaves them)",
                self.shift_hours,
                end.unwrap_or_default()
            )
        } else {
            "as recorded".to_owned()
        };
        format!(
            "readings   {} hourly readings of the airports EWR, JFK and LGA in 2013, {shift}\n",
            HumanCount(TOTAL)
        )
    }

    /// The readings whose key is not among these.
    pub(super) fn missing(&self, there: &HashSet<Key>) -> anyhow::Result<Missing> {
        let file = self.folder.join("missing.csv");
        let mut rows = csv::Reader::from_reader(GzDecoder::new(RECORDING));
        let mut out =
            csv::Writer::from_path(&file).with_context(|| format!("failed to write {}", file.display()))?;
        out.write_record(rows.headers()?)?;
        let (mut readings, mut newest) = (0, Micros(i64::MIN));
        for row in rows.records() {
            let row = row?;
            let time: DateTime<Utc> =
                row.get(TIME).unwrap_or_default().parse().context("the recording is damaged")?;
            let time = Micros::from(time);
            let key = (row.get(STATION).unwrap_or_default().to_owned(), shifted(time, self.shift_hours));
            if !there.contains(&key) {
                out.write_record(&row)?;
                readings += 1;
                newest = newest.max(time);
            }
        }
        out.flush()?;
        Ok(Missing { file, end: shifted(newest, self.shift_hours), readings })
    }
}

fn shifted(time: Micros, hours: i64) -> Micros {
    Micros(time.0.saturating_add(hours.saturating_mul(HOUR)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_published_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path());
        let recording = Recording::open(&directory, true).unwrap();
        let whole = recording.missing(&HashSet::new()).unwrap();
        assert_eq!((whole.readings, whole.end), (TOTAL, NEWEST));
        let there = HashSet::from([("JFK".to_owned(), NEWEST), ("JFK".to_owned(), Micros(0))]);
        assert_eq!(recording.missing(&there).unwrap().readings, TOTAL - 1);
    }

    #[test]
    fn a_shift_is_kept_for_the_next_demo() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path());
        let first = Recording::open(&directory, false).unwrap();
        assert!(first.is_shifted());
        assert_eq!(Recording::open(&directory, true).unwrap().shift_hours, first.shift_hours);
    }
}
