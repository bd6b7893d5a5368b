//! What was done with a table, or would be, in words.

use bytesize::ByteSize;
use millstream_lake::upkeep::{Cleaned, Compacted, Extent, Retired, Tended, Vacuumed};
use std::fmt::Write;

/// A line for the table, and one for each thing that was done.
pub(super) fn told(name: &str, tended: &Tended, dry_run: bool) -> String {
    let mut lines = Vec::new();
    lines.extend(
        tended.leased_until.map(|until| format!("left to a janitor that looks after it until {until}")),
    );
    lines.extend(tended.retired.as_ref().map(|retired| of_retired(retired, dry_run)));
    lines.extend(of_compacted(&tended.compacted, dry_run));
    lines.extend(tended.checkpoint.then(|| format!("{} a checkpoint", verb("wrote", "write", dry_run))));
    lines.extend(tended.cleaned.and_then(|cleaned| of_cleaned(cleaned, dry_run)));
    lines.extend(tended.vacuumed.iter().flat_map(|vacuumed| of_vacuumed(vacuumed, dry_run)));
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
    lines.extend(vacuumed.skipped.map(|why| format!("no files were removed: {why}")));
    lines
}
