//! What Millstream needs of a store, and what its tables promise on one: the same tests on a local directory, in memory, and on a real MinIO.

mod commits;
mod doubt;
mod files;
mod objects;
mod upkeep;

use crate::Bucket;
use crate::s3::S3Settings;
use millstream_model::secret::Secret;
use millstream_services::Services;
use tempfile::TempDir;

/// An empty bucket.
struct Place {
    bucket: Bucket,
    kind: Kind,
    /// How many objects the store lists at once.
    page: usize,
}

enum Kind {
    Directory(TempDir),
    Memory,
    /// A folder of a bucket, whose URL is this.
    Store(String, S3Settings),
}

impl Place {
    fn directory(_: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let bucket = Bucket::local(&dir.path().join("bucket")).unwrap();
        Some(Self { bucket, kind: Kind::Directory(dir), page: 30 })
    }

    fn memory(_: &str) -> Option<Self> {
        Some(Self { bucket: Bucket::memory("b"), kind: Kind::Memory, page: 30 })
    }

    fn minio(test: &str) -> Option<Self> {
        let services = millstream_services::services(test)?;
        Some(Self::store(services, &services.s3_endpoint))
    }

    /// A folder of a new bucket of the store, which is reached by this address.
    fn store(services: &Services, endpoint: &str) -> Self {
        let url = format!("s3://{}", services.bucket(&services.unique("lake")));
        let settings = S3Settings {
            endpoint: Some(endpoint.to_owned()),
            region: Some(services.s3_region.clone()),
            allow_http: Some(true),
            access_key: Some(Secret::new(services.s3_access_key.clone())),
            secret_key: Some(Secret::new(services.s3_secret_key.clone())),
            ..S3Settings::default()
        };
        let bucket = Bucket::open(&format!("{url}/plant/a"), &settings).unwrap();
        Self { bucket, kind: Kind::Store(url, settings), page: 1_000 }
    }

    /// The bucket as another process finds it.
    fn reopened(&self) -> Bucket {
        match &self.kind {
            Kind::Directory(dir) => Bucket::local(&dir.path().join("bucket")).unwrap(),
            Kind::Memory => self.bucket.clone(),
            Kind::Store(url, settings) => Bucket::open(&format!("{url}/plant/a"), settings).unwrap(),
        }
    }

    /// Another folder of the same bucket, where there are folders.
    fn beside(&self) -> Option<Bucket> {
        match &self.kind {
            Kind::Directory(_) | Kind::Memory => None,
            Kind::Store(url, settings) => Some(Bucket::open(&format!("{url}/plant/ab"), settings).unwrap()),
        }
    }

    /// How many unfinished writes there are; none where they cannot be seen.
    fn staged(&self) -> Option<usize> {
        match &self.kind {
            Kind::Directory(dir) => {
                Some(std::fs::read_dir(dir.path().join("bucket/_staging")).unwrap().count())
            }
            Kind::Memory => None,
            Kind::Store(url, _) => {
                let services = millstream_services::services("the uploads of a bucket").unwrap();
                Some(services.uploads(url.trim_start_matches("s3://")).len())
            }
        }
    }

    fn assert_staged(&self, expected: usize) {
        if let Some(staged) = self.staged() {
            assert_eq!(staged, expected);
        }
    }
}

/// Runs each test in each place.
macro_rules! suite {
    ($($place:ident)*: $tests:tt) => { $( suite!(@place $place $tests); )* };
    (@place $place:ident { $( $module:ident: $($test:ident)*; )* }) => {
        mod $place {
            $( mod $module { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(place) = super::super::Place::$place(stringify!($test)) else { return };
                    super::super::$module::$test(&place).await;
                }
            )* } )*
        }
    };
}

suite! {
    directory memory minio: {
        objects:
            of_concurrent_creates_of_a_key_one_wins
            listings_are_whole_and_sorted
            ranges_are_read_alone
            the_tag_that_a_put_tells_is_the_one_that_the_object_has
            an_object_is_overwritten_and_deleted
            a_large_object_is_seen_when_all_of_it_is_there
            folders_whose_names_begin_alike_are_apart
            odd_keys_come_back_as_they_went
            what_is_missing_to_use_it_is_nothing;
        commits:
            table_names_are_the_folders_that_have_a_delta_log
            where_there_is_no_table_none_is_opened
            of_many_who_make_a_table_at_once_one_makes_it_and_all_have_it
            a_bucket_that_is_opened_anew_has_what_was_committed
            writers_of_different_apps_all_land_whatever_they_had_seen
            a_second_writer_of_the_same_app_is_fenced_even_if_it_came_to_the_same_place
            a_replacement_planned_before_an_append_or_a_compaction_has_to_be_planned_anew
            a_compaction_planned_before_a_foreign_append_lands_only_when_planned_anew
            columns_and_properties_grow_in_one_commit_and_who_relied_on_the_old_ones_is_told
            a_snapshot_that_grew_commit_by_commit_is_the_one_that_a_newcomer_reads_with_and_without_checkpoint
            changes_are_told_commit_by_commit_until_they_are_gone
            a_table_that_was_made_anew_in_the_place_of_another_is_noticed;
        files:
            rows_are_split_by_date_sorted_by_device_and_time_and_measured
            rows_of_a_new_column_follow_the_commit_that_made_it
            a_file_larger_than_a_part_arrives_whole
            when_one_of_several_files_fails_no_parts_of_any_stay
            a_query_reads_what_was_committed;
        upkeep:
            small_files_become_one_and_what_nobody_needs_is_removed;
    }
}
