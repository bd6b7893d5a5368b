//! What was done with a table, or would be, in words.

use bytesize::ByteSize;
use millstream_lake::upkeep::{Cleaned, Compacted, Extent, Retired, Tended, Vacuumed};
use std::fmt::Write;

/// A line for the table, and one for each thing that was done, and for what could not be.
pub(super) fn told(name: &str, tended: &Tended, failure: Option<&str>, dry_run: bool) -> String {
    let mut lines = Vec::new();
    let until = tended.leased_until.map(|until| until.format("%H:%M:%S UTC"));
    lines.extend(until.map(|until| format!("left to a janitor that is at it until {until}")));
    lines.extend(tended.retired.as_ref().map(|retired| of_retired(retired, dry_run)));
    lines.extend(of_compacted(&tended.compacted, dry_run));
    lines.extend(tended.checkpoint.then(|| format!("{} a checkpoint", verb("wrote", "write", dry_run))));
    lines.extend(tended.cleaned.and_then(|cleaned| of_cleaned(cleaned, dry_run)));
    lines.extend(tended.vacuumed.iter().flat_map(|vacuumed| of_vacuumed(vacuumed, dry_run)));
    lines.extend(failure.map(|failure| format!("failed, {failure}")));
    let mut text = match (tended.before == tended.after, dry_run) {
        (true, _) => format!("{name}: {}", extent(tended.before)),
        (false, false) => format!("{name}: {}, now {}", extent(tended.before), extent(tended.after)),
        (false, true) => format!("{name}: {}, then about {}", extent(tended.before), extent(tended.after)),
    };
    if lines.is_empty() {
        text.push_str("; nothing to do");
    }
    text.push('\n');
    for line in lines {
        // Writing to a text cannot fail.
        _ = writeln!(text, "  {line}");
    }
    text
}

fn verb<'v>(done: &'v str, would: &'v str, dry_run: bool) -> String {
    if dry_run { format!("would {would}") } else { done.to_owned() }
}

fn extent(extent: Extent) -> String {
    format!("{}, {}", counted(extent.files, "file"), ByteSize(extent.bytes))
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn of_retired(retired: &Retired, dry_run: bool) -> String {
    let rows =
        retired.rows.map_or_else(|| "an unknown number of rows".to_owned(), |rows| counted(rows, "row"));
    let (first, last) = retired.dates;
    let dates = if first == last { format!("of {first}") } else { format!("from {first} to {last}") };
    format!(
        "{} {rows} {dates} in {}, {}: kept are those from {} on",
        verb("retired", "retire", dry_run),
        counted(retired.files, "file"),
        ByteSize(retired.bytes),
        retired.before
    )
}

fn of_compacted(compacted: &Compacted, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if compacted.written > 0 {
        let at_most = if dry_run { "at most " } else { "" };
        lines.push(format!(
            "{} {}, {}, into {}, {at_most}{}",
            verb("merged", "merge", dry_run),
            counted(compacted.merged, "file"),
            ByteSize(compacted.bytes_read),
            compacted.written,
            ByteSize(compacted.bytes_written)
        ));
    }
    if compacted.overtaken > 0 {
        lines.push(format!("{} came to nothing: others were faster", counted(compacted.overtaken, "merge")));
    }
    lines
}

fn of_cleaned(cleaned: Cleaned, dry_run: bool) -> Option<String> {
    (cleaned != Cleaned::default()).then(|| {
        format!(
            "{} {} and {} of the log, {}",
            verb("removed", "remove", dry_run),
            counted(cleaned.commits, "commit"),
            counted(cleaned.checkpoints, "checkpoint"),
            ByteSize(cleaned.bytes)
        )
    })
}

fn of_vacuumed(vacuumed: &Vacuumed, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if vacuumed.files > 0 {
        lines.push(format!(
            "{} {} that nobody needs, {}",
            verb("removed", "remove", dry_run),
            counted(vacuumed.files, "file"),
            ByteSize(vacuumed.bytes)
        ));
    }
    if vacuumed.strangers > 0 {
        let more = if vacuumed.strangers > vacuumed.named.len() as u64 { ", …" } else { "" };
        let (count, names) = (counted(vacuumed.strangers, "file"), vacuumed.named.join(", "));
        lines.push(format!("{count} that Millstream did not write, left alone: {names}{more}"));
    }
    lines.extend(vacuumed.skipped.map(|why| format!("no files are removed: {why}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tended: &Tended, dry_run: bool, expected: &str) {
        assert_eq!(told("ingestion.telemetry", tended, None, dry_run), expected);
    }

    fn tended() -> Tended {
        Tended {
            before: Extent { files: 1462, bytes: 90 << 20 },
            after: Extent { files: 4, bytes: 61 << 20 },
            retired: Some(Retired {
                before: "2026-11-01".parse().unwrap(),
                dates: ("2026-10-30".parse().unwrap(), "2026-10-31".parse().unwrap()),
                files: 2,
                rows: Some(1),
                bytes: 3 << 20,
            }),
            compacted: Compacted {
                written: 7,
                merged: 1463,
                bytes_read: 100 << 20,
                bytes_written: 70 << 20,
                overtaken: 1,
            },
            checkpoint: true,
            cleaned: Some(Cleaned { commits: 1440, checkpoints: 1, bytes: 1 << 20 }),
            vacuumed: Some(Vacuumed {
                files: 2880,
                bytes: 180 << 20,
                strangers: 2,
                named: vec!["notes.txt".to_owned()],
                skipped: None,
            }),
            ..Tended::default()
        }
    }

    #[test]
    fn what_was_done_is_told_line_by_line() {
        check(
            &tended(),
            false,
            "ingestion.telemetry: 1462 files, 90.0 MiB, now 4 files, 61.0 MiB
  retired 1 row from 2026-10-30 to 2026-10-31 in 2 files, 3.0 MiB: kept are those from 2026-11-01 on
  merged 1463 files, 100.0 MiB, into 7, 70.0 MiB
  1 merge came to nothing: others were faster
  wrote a checkpoint
  removed 1440 commits and 1 checkpoint of the log, 1.0 MiB
  removed 2880 files that nobody needs, 180.0 MiB
  2 files that Millstream did not write, left alone: notes.txt, …
",
        );
        let quiet = Tended { before: Extent { files: 1, bytes: 1000 }, ..Tended::default() };
        let quiet = Tended { after: quiet.before, ..quiet };
        check(&quiet, false, "ingestion.telemetry: 1 file, 1000 B; nothing to do\n");
        assert_eq!(
            told("t", &Tended { checkpoint: true, ..quiet.clone() }, Some("read x of table t"), false),
            "t: 1 file, 1000 B\n  wrote a checkpoint\n  failed, read x of table t\n"
        );
        let until = "2026-11-21T16:45:00Z".parse().ok();
        check(
            &Tended { leased_until: until, ..quiet.clone() },
            false,
            "ingestion.telemetry: 1 file, 1000 B\n  left to a janitor that is at it until 16:45:00 UTC\n",
        );
        let skipped = Vacuumed { skipped: Some("its log does not reach back"), ..Vacuumed::default() };
        check(
            &Tended { vacuumed: Some(skipped), ..quiet },
            true,
            "ingestion.telemetry: 1 file, 1000 B\n  no files are removed: its log does not reach back\n",
        );
    }

    #[test]
    fn what_would_be_done_is_told_as_such() {
        let mut tended = tended();
        tended.compacted.overtaken = 0;
        if let Some(retired) = &mut tended.retired {
            (retired.dates.0, retired.rows) = (retired.dates.1, None);
        }
        check(
            &tended,
            true,
            "ingestion.telemetry: 1462 files, 90.0 MiB, then about 4 files, 61.0 MiB
  would retire an unknown number of rows of 2026-10-31 in 2 files, 3.0 MiB: kept are those from 2026-11-01 on
  would merge 1463 files, 100.0 MiB, into 7, at most 70.0 MiB
  would write a checkpoint
  would remove 1440 commits and 1 checkpoint of the log, 1.0 MiB
  would remove 2880 files that nobody needs, 180.0 MiB
  2 files that Millstream did not write, left alone: notes.txt, …
",
        );
    }
}
