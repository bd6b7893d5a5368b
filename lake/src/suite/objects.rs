//! What Millstream needs of an object store.

use super::Place;
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode};
use std::sync::Arc;

/// The least that S3 takes as a part which is not the last.
const PART: usize = 5 << 20;

/// How many requests of a test are on their way at once.
const AT_ONCE: usize = 32;

async fn put(store: &Arc<dyn ObjectStore>, key: &str, content: &str) {
    store.put(&Path::from(key), content.to_owned().into()).await.unwrap();
}

async fn read(store: &Arc<dyn ObjectStore>, key: &str) -> Bytes {
    store.get(&Path::from(key)).await.unwrap().bytes().await.unwrap()
}

async fn listed(store: &Arc<dyn ObjectStore>, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(Path::from);
    let objects: Vec<_> = store.list(prefix.as_ref()).try_collect().await.unwrap();
    objects.into_iter().map(|meta| meta.location.to_string()).collect()
}

pub(super) async fn of_concurrent_creates_of_a_key_one_wins(place: &Place) {
    let store = place.bucket.store();
    for round in 0..20 {
        let key = Path::from(format!("t/_delta_log/{round:020}.json"));
        let create = |contender: usize| {
            let (store, key) = (&store, &key);
            async move {
                let created = store.put_opts(key, contender.to_string().into(), PutMode::Create.into()).await;
                match created {
                    Ok(_) => Some(contender),
                    Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => None,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let winners: Vec<usize> = join_all((0..8).map(create)).await.into_iter().flatten().collect();
        let [winner] = winners[..] else { panic!("round {round}: {winners:?}") };
        assert_eq!(read(&store, key.as_ref()).await, winner.to_string());
        assert_eq!(create(9).await, None);
    }
    place.bucket.probe().await.unwrap();
    assert!(listed(&store, Some("_millstream_probe")).await.is_empty());
}

pub(super) async fn listings_are_whole_and_sorted(place: &Place) {
    let store = place.bucket.store();
    let names: Vec<String> =
        (0..place.page + 30).map(|number| format!("t/_delta_log/{number:05}.json")).collect();
    // Backwards, as no listing may be.
    let puts = stream::iter(names.iter().rev()).map(|name| put(&store, name, "x"));
    puts.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    put(&store, "t/other", "x").await;
    assert_eq!(listed(&store, Some("t/_delta_log")).await, names);
    let offset = Path::from(names[9].as_str());
    let behind = store.list_with_offset(Some(&Path::from("t/_delta_log")), &offset);
    let behind: Vec<_> = behind.map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    assert_eq!(behind, names[10..]);
    let level = store.list_with_delimiter(Some(&Path::from("t"))).await.unwrap();
    assert_eq!(level.common_prefixes, [Path::from("t/_delta_log")]);
    assert_eq!(level.objects.iter().map(|meta| meta.location.as_ref()).collect::<Vec<_>>(), ["t/other"]);
}

pub(super) async fn ranges_are_read_alone(place: &Place) {
    let store = place.bucket.store();
    put(&store, "t/file", "0123456789").await;
    let key = Path::from("t/file");
    assert_eq!(store.head(&key).await.unwrap().size, 10);
    assert_eq!(store.get_range(&key, 2..5).await.unwrap(), "234");
    assert_eq!(store.get_ranges(&key, &[0..1, 7..9]).await.unwrap(), ["0", "78"]);
    let options = GetOptions { range: Some(GetRange::Suffix(3)), ..GetOptions::default() };
    assert_eq!(store.get_opts(&key, options).await.unwrap().bytes().await.unwrap(), "789");
    assert!(store.get_range(&key, 10..12).await.is_err());
}

/// By it a handle recognises its own commit.
pub(super) async fn the_tag_that_a_put_tells_is_the_one_that_the_object_has(place: &Place) {
    let (store, key) = (place.bucket.store(), Path::from("t/_delta_log/00000000000000000001.json"));
    let put = store.put_opts(&key, "x".into(), PutMode::Create.into()).await.unwrap();
    assert!(put.e_tag.is_some());
    assert_eq!(store.head(&key).await.unwrap().e_tag, put.e_tag);
}

pub(super) async fn an_object_is_overwritten_and_deleted(place: &Place) {
    let store = place.bucket.store();
    put(&store, "t/_last_checkpoint", "one").await;
    let before = store.head(&Path::from("t/_last_checkpoint")).await.unwrap();
    put(&store, "t/_last_checkpoint", "another").await;
    assert_eq!(read(&store, "t/_last_checkpoint").await, "another");
    let after = store.head(&Path::from("t/_last_checkpoint")).await.unwrap();
    assert_ne!((before.e_tag, before.size), (after.e_tag, after.size));
    store.delete(&Path::from("t/_last_checkpoint")).await.unwrap();
    let gone = store.get(&Path::from("t/_last_checkpoint")).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
    assert!(matches!(store.head(&Path::from("never")).await.unwrap_err(), Error::NotFound { .. }));
    assert!(listed(&store, None).await.is_empty());
}

pub(super) async fn a_large_object_is_seen_when_all_of_it_is_there(place: &Place) {
    let store = place.bucket.store();
    let key = Path::from("t/large");
    let part = |number: u8| Bytes::from(vec![number; PART]);
    let mut upload = store.put_multipart(&key).await.unwrap();
    for number in 0..3 {
        upload.put_part(part(number).into()).await.unwrap();
    }
    upload.put_part(Bytes::from_static(b"end").into()).await.unwrap();
    assert!(store.head(&key).await.is_err(), "seen before it is complete");
    upload.complete().await.unwrap();
    let whole = read(&store, "t/large").await;
    assert_eq!(whole.len(), 3 * PART + 3);
    assert!((0..3).all(|number| whole[usize::from(number) * PART] == number) && whole.ends_with(b"end"));
    let mut upload = store.put_multipart(&Path::from("t/never")).await.unwrap();
    upload.put_part(part(9).into()).await.unwrap();
    place.assert_staged(1);
    upload.abort().await.unwrap();
    assert_eq!(listed(&store, None).await, ["t/large"]);
    place.assert_staged(0);
}

pub(super) async fn folders_whose_names_begin_alike_are_apart(place: &Place) {
    let store = place.bucket.store();
    for key in ["t/a", "t2/b", "t_/c", "other/t/d"] {
        put(&store, key, "x").await;
    }
    assert_eq!(listed(&store, Some("t")).await, ["t/a"]);
    assert_eq!(listed(&store, None).await, ["other/t/d", "t/a", "t2/b", "t_/c"]);
    assert!(listed(&store, Some("missing")).await.is_empty());
    // What lies beside the folder that is taken for the bucket is not in it.
    if let Some(beside) = place.beside() {
        put(&beside.store(), "t/foreign", "x").await;
        assert_eq!(listed(&store, Some("t")).await, ["t/a"]);
        assert_eq!(listed(&beside.store(), None).await, ["t/foreign"]);
    }
}

pub(super) async fn odd_keys_come_back_as_they_went(place: &Place) {
    let store = place.bucket.store();
    let mut keys = [
        "t/date=2026-11-21/part-0.zstd.parquet",
        "t/date=__HIVE_DEFAULT_PARTITION__/part-1",
        "t/a b+c&d=e",
        "t/ä/ö~!*'()",
        "t/100%25",
        "t/#?;:@,",
    ]
    .map(Path::from);
    keys.sort_unstable();
    for key in &keys {
        store.put(key, key.to_string().into()).await.unwrap();
    }
    let found: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert_eq!(found, keys);
    for key in &keys {
        assert_eq!(store.get(key).await.unwrap().bytes().await.unwrap(), key.to_string());
        store.delete(key).await.unwrap();
    }
    assert!(listed(&store, None).await.is_empty());
}

pub(super) async fn what_is_missing_to_use_it_is_nothing(place: &Place) {
    let trials = place.bucket.permissions().await;
    let granted =
        |trial: &crate::permissions::Trial| matches!(trial.verdict, crate::permissions::Verdict::Granted);
    assert!(trials.len() == 7 && trials.iter().all(granted), "{trials:?}");
    assert!(listed(&place.bucket.store(), None).await.is_empty());
}
