//! The store by itself; what a client sees of it is tested with the gateway.

use super::store::Store;
use super::{Resumed, SessionError, Sessions, Start};
use crate::identity::access::Owner;
use millstream_model::time::Micros;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DAY: u32 = 24 * 3600;

fn start(client_id: &str, clean: bool, expiry: u32, now: i64) -> Start {
    Start {
        client_id: client_id.into(),
        owner: Owner::anybody(),
        clean,
        expiry,
        now: seconds(now),
        sessions_max: 2,
    }
}

fn seconds(seconds: i64) -> Micros {
    Micros(seconds * 1_000_000)
}

fn id(id: u16) -> NonZeroU16 {
    NonZeroU16::new(id).unwrap()
}

fn open(path: &Path) -> Sessions {
    Sessions::open(path).unwrap()
}

#[tokio::test]
async fn identifiers_outlive_the_process_and_belong_to_one_client() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let (d1, d10): (Arc<str>, Arc<str>) = ("d1".into(), "d10".into());
    let sessions = open(&path);
    for client_id in ["d1", "d10"] {
        assert_eq!(sessions.begin(start(client_id, false, DAY, 0)).await.unwrap(), Resumed::default());
    }
    for (client_id, identifier) in [(&d1, 1), (&d1, 65_535), (&d10, 2), (&d1, 3)] {
        sessions.received(client_id, id(identifier)).await.await.unwrap().unwrap();
    }
    sessions.released(&d1, id(3)).await.await.unwrap().unwrap();
    sessions.close().await;
    let sessions = open(&path);
    sessions.restart(seconds(1)).await.unwrap();
    let resumed = sessions.begin(start("d1", false, DAY, 2)).await.unwrap();
    assert_eq!(resumed, Resumed { present: true, open: vec![id(1), id(65_535)] });
    assert_eq!(sessions.begin(start("d1", true, DAY, 2)).await.unwrap(), Resumed::default());
    let resumed = sessions.begin(start("d10", false, DAY, 2)).await.unwrap();
    assert_eq!(resumed, Resumed { present: true, open: vec![id(2)] });
    sessions.close().await;
}

#[tokio::test]
async fn who_was_connected_at_a_crash_has_been_away_since_the_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let sessions = open(&path);
    sessions.begin(start("d1", false, 100, 0)).await.unwrap();
    sessions.close().await;
    for (restart, now, present) in [(1000, 1099, true), (2000, 2100, false)] {
        let sessions = open(&path);
        sessions.restart(seconds(restart)).await.unwrap();
        assert_eq!(sessions.begin(start("d1", false, 100, now)).await.unwrap().present, present);
        sessions.close().await;
    }
}

#[tokio::test]
async fn expired_sessions_make_room() {
    let sessions = Sessions::in_memory().unwrap();
    for client_id in ["d1", "d2"] {
        sessions.begin(start(client_id, false, 100, 0)).await.unwrap();
        sessions.end(&client_id.into(), 100, seconds(0)).await.unwrap();
    }
    let refused = sessions.begin(start("d3", false, 100, 99)).await;
    assert!(matches!(refused, Err(SessionError::TooMany(2))), "{refused:?}");
    assert!(!sessions.begin(start("d4", false, 0, 99)).await.unwrap().present);
    // As soon as one expires, whether or not somebody has tidied up.
    assert_eq!(sessions.begin(start("d3", false, 100, 100)).await.unwrap(), Resumed::default());
    sessions.end(&"d3".into(), 10, seconds(200)).await.unwrap();
    assert_eq!(sessions.begin(start("d4", false, 100, 209)).await.unwrap(), Resumed::default());
    let refused = sessions.begin(start("d5", false, 100, 209)).await;
    assert!(matches!(refused, Err(SessionError::TooMany(2))), "{refused:?}");
    sessions.purge(seconds(210)).await.unwrap();
    assert_eq!(sessions.begin(start("d5", false, 100, 210)).await.unwrap(), Resumed::default());
    sessions.close().await;
}

#[tokio::test]
async fn the_file_belongs_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let sessions = open(&path);
    let second = Sessions::open(&path);
    assert!(matches!(second, Err(SessionError::Storage { action: "open", .. })), "{second:?}");
    sessions.close().await;
}

/// A disk that fails as long as it is told to.
#[derive(Debug)]
struct FailingDisk {
    disk: InMemoryBackend,
    failing: Arc<AtomicBool>,
}

impl FailingDisk {
    fn check(&self) -> io::Result<()> {
        if self.failing.load(Ordering::SeqCst) { Err(io::Error::other("the disk fails")) } else { Ok(()) }
    }
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.disk.write(offset, data)
    }
}

/// Sessions on a disk that fails from the moment the flag is set.
pub(crate) fn on_failing_disk() -> (Sessions, Arc<AtomicBool>) {
    let failing = Arc::new(AtomicBool::new(false));
    let disk = FailingDisk { disk: InMemoryBackend::new(), failing: Arc::clone(&failing) };
    (Sessions::start(Store::on_backend(disk).unwrap()).unwrap(), failing)
}

#[tokio::test]
async fn what_the_disk_does_not_keep_is_not_confirmed() {
    let (sessions, failing) = on_failing_disk();
    sessions.begin(start("d1", false, DAY, 0)).await.unwrap();
    failing.store(true, Ordering::SeqCst);
    let kept = sessions.received(&"d1".into(), id(1)).await.await.unwrap();
    assert!(matches!(kept, Err(SessionError::Storage { .. })), "{kept:?}");
    let begun = sessions.begin(start("d2", false, DAY, 0)).await;
    assert!(matches!(begun, Err(SessionError::Storage { .. })), "{begun:?}");
    sessions.close().await;
}

#[test]
fn after_a_failure_the_file_is_opened_again_as_it_was_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(&directory.path().join("sessions.redb")).unwrap();
    store.commit(|sessions| sessions.received("d1", id(1))).unwrap();
    let failed = store.commit(|sessions| {
        sessions.received("d1", id(2))?;
        Err(SessionError::Closed)
    });
    assert!(failed.is_err());
    store.commit(|sessions| sessions.received("d1", id(3))).unwrap();
    let mut found = Resumed::default();
    store
        .commit(|sessions| {
            sessions.end("d1", DAY, seconds(0))?;
            found = sessions.start(&start("d1", false, DAY, 1))?;
            Ok(())
        })
        .unwrap();
    assert_eq!(found, Resumed { present: true, open: vec![id(1), id(3)] });
}

#[tokio::test]
async fn a_session_belongs_to_whoever_began_it_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let owned =
        |owner: &str, clean, now| Start { owner: Owner::stored(owner), ..start("d1", clean, DAY, now) };
    let sessions = open(&path);
    // What anybody left, an owner may have.
    sessions.begin(start("d1", false, DAY, 0)).await.unwrap();
    assert!(sessions.begin(owned("device:d1", false, 1)).await.unwrap().present);
    sessions.received(&"d1".into(), id(7)).await.await.unwrap().unwrap();
    sessions.end(&"d1".into(), DAY, seconds(2)).await.unwrap();
    sessions.close().await;
    let sessions = open(&path);
    for other in [owned("device:d2", false, 3), owned("device:d2", true, 3), start("d1", true, DAY, 3)] {
        let refused = sessions.begin(other).await;
        assert!(matches!(refused, Err(SessionError::Owned)), "{refused:?}");
    }
    let resumed = sessions.begin(owned("device:d1", false, 4)).await.unwrap();
    assert_eq!(resumed, Resumed { present: true, open: vec![id(7)] });
    sessions.end(&"d1".into(), DAY, seconds(5)).await.unwrap();
    let later = 5 + i64::from(DAY);
    assert_eq!(sessions.begin(owned("device:d2", false, later)).await.unwrap(), Resumed::default());
    sessions.end(&"d1".into(), 0, seconds(later)).await.unwrap();
    assert_eq!(sessions.begin(start("d1", false, DAY, later)).await.unwrap(), Resumed::default());
    assert!(sessions.begin(owned("device:d1", false, later)).await.unwrap().present);
    sessions.close().await;
}

#[tokio::test]
async fn a_renewed_certificate_goes_on_with_the_session_that_the_old_one_has_left() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = open(&directory.path().join("sessions.redb"));
    let owned = |owner: &str| Start { owner: Owner::stored(owner), ..start("d1", false, DAY, 1) };
    sessions.begin(owned("certificate:old")).await.unwrap();
    for other in ["certificate:new", "device:d1"] {
        let refused = sessions.begin(owned(other)).await;
        assert!(matches!(refused, Err(SessionError::Owned)), "the old one is there: {refused:?}");
    }
    sessions.end(&"d1".into(), DAY, seconds(2)).await.unwrap();
    let anybody = sessions.begin(start("d1", false, DAY, 3)).await;
    assert!(matches!(anybody, Err(SessionError::Owned)), "{anybody:?}");
    assert!(sessions.begin(owned("certificate:new")).await.unwrap().present);
    sessions.end(&"d1".into(), DAY, seconds(4)).await.unwrap();
    assert!(sessions.begin(owned("device:d1")).await.unwrap().present, "it was put on the list");
    sessions.close().await;
}
