use super::*;
use chrono::TimeDelta;

const MIB: u64 = 1 << 20;
const TARGET: u64 = 128 * MIB;

fn noon() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// A file of `date`, so many minutes old at noon.
fn file(number: usize, date: &str, size: u64, minutes_old: i64) -> DataFile {
    DataFile {
        path: format!("date={date}/part-00000000-0000-4000-8000-{number:012x}.zstd.parquet"),
        size,
        rows: Some(size),
        partition_values: BTreeMap::from([(DATE.to_owned(), Some(date.to_owned()))]),
        stats: None,
        tags: BTreeMap::new(),
        modified_ms: (noon() - TimeDelta::minutes(minutes_old)).timestamp_millis(),
    }
}

fn chosen(files: &[DataFile]) -> Vec<Vec<u64>> {
    let groups = choose(files, &[DATE.to_owned()], TARGET, noon());
    groups.into_iter().map(|group| group.files.iter().map(|file| file.size / 1024).collect()).collect()
}

/// Sizes in KiB of files of one date, each a minute younger than the one before.
fn check(date: &str, newest_minutes: i64, sizes: &[u64], expected: &[&[u64]]) {
    let count = i64::try_from(sizes.len()).unwrap();
    let files: Vec<DataFile> = (0..)
        .zip(sizes)
        .map(|(number, size)| file(number, date, size * 1024, newest_minutes + count - number as i64))
        .collect();
    assert_eq!(chosen(&files), expected, "{date} {sizes:?}");
}

#[test]
fn a_day_that_goes_on_is_merged_a_tier_at_a_time() {
    let today = "2026-11-21";
    check(today, 0, &[10; 7], &[]);
    check(today, 0, &[10; 8], &[&[10; 8]]);
    check(today, 0, &[80, 10, 10, 10, 10, 10, 10, 10], &[]);
    // What is smaller goes with it.
    check(
        today,
        0,
        &[800, 800, 800, 800, 800, 800, 800, 10, 800],
        &[&[800, 800, 800, 800, 800, 800, 800, 10, 800]],
    );
    check(today, 0, &[100_000; 20], &[]);
}

#[test]
fn a_day_that_is_over_and_quiet_is_merged_to_its_end() {
    let yesterday = "2026-11-20";
    check(yesterday, 30, &[10, 10], &[]);
    check(yesterday, 90, &[10, 10], &[&[10, 10]]);
    check(yesterday, 90, &[10], &[]);
    check(yesterday, 90, &[60_000, 3_000, 30, 9_000], &[&[60_000, 3_000, 30, 9_000]]);
    // A large file is not written again for a little that came late.
    check(yesterday, 90, &[60_000, 30, 30], &[]);
    check(yesterday, 90, &[100_000, 30, 30], &[&[30, 30]]);
    check(yesterday, 90, &[60_000, 60_000, 60_000], &[&[60_000, 60_000]]);
}

#[test]
fn a_group_has_no_more_bytes_and_files_than_it_may() {
    let files: Vec<DataFile> = (0..600).map(|number| file(number, "2026-11-21", 1024, 0)).collect();
    assert_eq!(chosen(&files).iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 88]);
    let files: Vec<DataFile> = (0..20).map(|number| file(number, "2026-11-20", 30 * MIB, 90)).collect();
    assert_eq!(chosen(&files).iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4, 4, 4]);
}

#[test]
fn only_our_files_of_one_partition_and_one_log_are_put_together() {
    let alike = |change: &dyn Fn(usize, &mut DataFile)| {
        let mut files: Vec<DataFile> = (0..10).map(|number| file(number, "2026-11-20", 1024, 90)).collect();
        files.iter_mut().enumerate().for_each(|(number, file)| change(number, file));
        chosen(&files).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(alike(&|_, _| {}), [10]);
    let other_log = |tag: &'static str| {
        move |number: usize, file: &mut DataFile| {
            file.tags.insert(tag.to_owned(), (number / 5).to_string());
        }
    };
    assert_eq!(alike(&other_log(tags::EPOCH)), [5, 5]);
    assert_eq!(alike(&other_log(tags::LOG_TOPIC)), [5, 5]);
    let foreign = |number: usize, file: &mut DataFile| {
        if number < 4 {
            file.path = format!("date=2026-11-20/part-0000{number}-x.c000.snappy.parquet");
        }
    };
    assert_eq!(alike(&foreign), [6]);
    let other_date = |number: usize, file: &mut DataFile| {
        if number < 3 {
            file.partition_values.insert(DATE.to_owned(), Some("2026-11-19".to_owned()));
        }
    };
    assert_eq!(alike(&other_date), [3, 7]);
}

/// A file a minute for a year, looked after every ten minutes: how many files there are, and how often each byte is written again.
#[test]
fn a_year_of_one_minute_files_stays_few_files_and_few_bytes_are_written_again() {
    let begin: DateTime<Utc> = "2025-01-01T00:00:00Z".parse().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let (mut settled, mut recent): (usize, Vec<DataFile>) = (0, Vec::new());
    let (mut came, mut written, mut most, mut merges) = (0, 0, 0, 0_u64);
    for minute in 0..365 * 24 * 60 {
        let now = begin + TimeDelta::minutes(minute);
        let mut new = file(usize::try_from(minute).unwrap(), &now.date_naive().to_string(), 0, 0);
        (new.size, new.modified_ms) = (random.u64(30_000..90_000), now.timestamp_millis());
        came += new.size;
        recent.push(new);
        if minute % 10 == 0 {
            for group in choose(&recent, &[DATE.to_owned()], TARGET, now) {
                merges += 1;
                written += group.bytes();
                crate::upkeep::compact::apply(&mut recent, &group);
                // Named anew, since it lives on beside others of the first one's name.
                recent.last_mut().unwrap().modified_ms = now.timestamp_millis();
            }
            // What is two days old is not touched any more: so the test need not look through it each time.
            let old = (now - TimeDelta::days(2)).date_naive().to_string();
            let before = recent.len();
            recent.retain(|file| file.partition_values[DATE].as_ref() >= Some(&old));
            settled += before - recent.len();
        }
        most = most.max(recent.len());
    }
    println!(
        "{settled} settled, at most {most} recent; each byte written again {:.1} times in {merges} merges",
        written as f64 / came as f64
    );
    assert!(settled <= 2 * 365, "{settled} files of days that are over");
    assert!(most <= 60, "{most} files of days that go on");
    assert!(written <= 6 * came, "{written} bytes written for {came}");
}
