//! The sessions' file: three tables in redb, one commit per batch. Synchronous; it waits for the disk.

use super::{Resumed, SessionError, Start};
use crate::identity::access::Owner;
use millstream_model::time::Micros;
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, ReadableTable, ReadableTableMetadata, StorageBackend, Table, TableDefinition};
use std::fs::File;
use std::io;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Client id -> how many seconds the session outlives its connection, and since when (microseconds since 1970) it has been without one; `None`: connected.
const SESSIONS: TableDefinition<'_, &str, (u32, Option<i64>)> = TableDefinition::new("sessions");

/// Client id and packet identifier of messages of QoS 2 that are in the log and not yet released.
const OPEN: TableDefinition<'_, (&str, u16), ()> = TableDefinition::new("open_qos2");

/// Client id -> to whom its session belongs. One without a row here is anybody's.
const OWNERS: TableDefinition<'_, &str, &str> = TableDefinition::new("owners");

/// What errors call the place of sessions without a file.
const MEMORY: &str = "memory";

/// Memory for pages of the file: the tables are small.
const CACHE_BYTES: usize = 8 << 20;

/// One row of [`SESSIONS`].
#[derive(Debug, Clone, Copy)]
struct Session {
    expiry: u32,
    since: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Store {
    /// `None` after a failure: redb refuses everything after a failed write, until the file is opened again.
    database: Option<Database>,
    /// Where the file is; `None`: in memory.
    file: Option<PathBuf>,
    /// No session expires before this; [`UNKNOWN`] if that has to be looked up.
    first_expiry: i64,
}

/// Stands for "any moment".
const UNKNOWN: i64 = i64::MIN;

/// What one commit will change.
pub(super) struct Transaction<'t> {
    sessions: Table<'t, &'static str, (u32, Option<i64>)>,
    open: Table<'t, (&'static str, u16), ()>,
    owners: Table<'t, &'static str, &'static str>,
    path: &'t Path,
    changed: bool,
    first_expiry: i64,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, SessionError> {
        let database = open(path)?;
        Ok(Self { database: Some(database), file: Some(path.to_owned()), first_expiry: UNKNOWN })
    }

    pub(super) fn in_memory() -> Result<Self, SessionError> {
        Self::on_backend(InMemoryBackend::new())
    }

    pub(super) fn on_backend(backend: impl StorageBackend) -> Result<Self, SessionError> {
        let database =
            Builder::new().create_with_backend(backend).map_err(failed("open", Path::new(MEMORY)))?;
        Ok(Self { database: Some(database), file: None, first_expiry: UNKNOWN })
    }

    /// Runs the work in one transaction, which is durable when this returns. Nothing is written if nothing changed or something failed.
    pub(super) fn commit(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let path = self.file.as_deref().unwrap_or(Path::new(MEMORY));
        let database = match self.database.take() {
            Some(database) => database,
            None => open(path)?,
        };
        let done = commit(&database, path, self.first_expiry, work);
        if done.is_ok() || self.file.is_none() {
            self.database = Some(database);
        }
        self.first_expiry = *done.as_ref().unwrap_or(&UNKNOWN);
        done.map(drop)
    }
}

fn open(path: &Path) -> Result<Database, SessionError> {
    let is_new = !path.exists();
    let database = Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(failed("open", path))?;
    if is_new {
        // redb makes the file's content durable, not its name.
        sync_parent(path).map_err(|error| failed("open", path)(redb::Error::Io(error)))?;
    }
    Ok(database)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Returns before when no session expires.
fn commit(
    database: &Database,
    path: &Path,
    first_expiry: i64,
    work: impl FnOnce(&mut Transaction<'_>) -> Result<(), SessionError>,
) -> Result<i64, SessionError> {
    let transaction = database.begin_write().map_err(failed("write", path))?;
    let (changed, first_expiry) = {
        let mut tables = Transaction {
            sessions: transaction.open_table(SESSIONS).map_err(failed("read", path))?,
            open: transaction.open_table(OPEN).map_err(failed("read", path))?,
            owners: transaction.open_table(OWNERS).map_err(failed("read", path))?,
            path,
            changed: false,
            first_expiry,
        };
        work(&mut tables)?;
        (tables.changed, tables.first_expiry)
    };
    if changed {
        transaction.commit().map_err(failed("write", path))?;
    } else {
        transaction.abort().map_err(failed("read", path))?;
    }
    Ok(first_expiry)
}

impl Transaction<'_> {
    pub(super) fn start(&mut self, start: &Start) -> Result<Resumed, SessionError> {
        let found = self.find(&start.client_id)?;
        let alive = found.is_some_and(|session| !session.has_expired(start.now));
        if alive {
            let owner = self.owner(&start.client_id)?;
            let away = found.is_some_and(|session| session.since.is_some());
            // A certificate that was only vouched for is renewed, or listed as a device's, without a word to us: whoever may have its client id goes on when it is away.
            let inherits = away && owner.is_vouched() && start.owner != Owner::anybody();
            if !start.owner.may_have(&owner) && !inherits {
                return Err(SessionError::Owned);
            }
        }
        if found.is_some() && (start.clean || !alive) {
            self.forget(&start.client_id)?;
        }
        let present = alive && !start.clean;
        if !present && start.expiry > 0 {
            self.make_room(start)?;
        }
        if present || start.expiry > 0 {
            self.keep(&start.client_id, Session { expiry: start.expiry, since: None })?;
            self.give(&start.client_id, &start.owner)?;
        }
        let open = if present { self.open_of(&start.client_id)? } else { Vec::new() };
        Ok(Resumed { present, open })
    }

    pub(super) fn received(&mut self, client_id: &str, id: NonZeroU16) -> Result<(), SessionError> {
        self.changed = true;
        self.open.insert((client_id, id.get()), ()).map(drop).map_err(failed("write", self.path))
    }

    pub(super) fn released(&mut self, client_id: &str, id: NonZeroU16) -> Result<(), SessionError> {
        self.changed = true;
        self.open.remove((client_id, id.get())).map(drop).map_err(failed("write", self.path))
    }

    pub(super) fn end(&mut self, client_id: &str, expiry: u32, now: Micros) -> Result<(), SessionError> {
        if expiry > 0 {
            return self.keep(client_id, Session { expiry, since: Some(now.0) });
        }
        if self.find(client_id)?.is_some() { self.forget(client_id) } else { Ok(()) }
    }

    pub(super) fn restart(&mut self, now: Micros) -> Result<(), SessionError> {
        for (client_id, session) in self.those(|session| session.since.is_none())? {
            self.keep(&client_id, Session { since: Some(now.0), ..session })?;
        }
        self.purge(now)
    }

    /// Looks through all sessions only if one may have expired.
    pub(super) fn purge(&mut self, now: Micros) -> Result<(), SessionError> {
        if now.0 < self.first_expiry {
            return Ok(());
        }
        let mut first_expiry = i64::MAX;
        let expired = self.those(|session| {
            let expired = session.has_expired(now);
            if !expired {
                first_expiry = first_expiry.min(session.expires_at());
            }
            expired
        })?;
        for (client_id, _) in expired {
            self.forget(&client_id)?;
        }
        self.first_expiry = first_expiry;
        Ok(())
    }

    fn owner(&self, client_id: &str) -> Result<Owner, SessionError> {
        let found = self.owners.get(client_id).map_err(failed("read", self.path))?;
        Ok(found.map_or(Owner::anybody(), |row| Owner::stored(row.value())))
    }

    fn give(&mut self, client_id: &str, owner: &Owner) -> Result<(), SessionError> {
        let given = match owner.as_str() {
            Some(owner) => self.owners.insert(client_id, owner).map(drop),
            None => self.owners.remove(client_id).map(drop),
        };
        given.map_err(failed("write", self.path))
    }

    fn make_room(&mut self, start: &Start) -> Result<(), SessionError> {
        if self.count()? < start.sessions_max {
            return Ok(());
        }
        self.purge(start.now)?;
        let count = self.count()?;
        if count < start.sessions_max { Ok(()) } else { Err(SessionError::TooMany(count)) }
    }

    fn count(&self) -> Result<u64, SessionError> {
        self.sessions.len().map_err(failed("read", self.path))
    }

    fn find(&self, client_id: &str) -> Result<Option<Session>, SessionError> {
        let found = self.sessions.get(client_id).map_err(failed("read", self.path))?;
        Ok(found.map(|row| row.value().into()))
    }

    /// The sessions of this kind.
    fn those(&self, mut wanted: impl FnMut(Session) -> bool) -> Result<Vec<(String, Session)>, SessionError> {
        let mut found = Vec::new();
        for row in self.sessions.iter().map_err(failed("read", self.path))? {
            let (client_id, session) = row.map_err(failed("read", self.path))?;
            let session = session.value().into();
            if wanted(session) {
                found.push((client_id.value().to_owned(), session));
            }
        }
        Ok(found)
    }

    fn open_of(&self, client_id: &str) -> Result<Vec<NonZeroU16>, SessionError> {
        let rows =
            self.open.range((client_id, 0)..=(client_id, u16::MAX)).map_err(failed("read", self.path))?;
        let mut ids = Vec::new();
        for row in rows {
            let (key, ()) =
                row.map(|(key, value)| (key, value.value())).map_err(failed("read", self.path))?;
            ids.extend(NonZeroU16::new(key.value().1));
        }
        Ok(ids)
    }

    fn keep(&mut self, client_id: &str, session: Session) -> Result<(), SessionError> {
        self.changed = true;
        self.first_expiry = self.first_expiry.min(session.expires_at());
        self.sessions
            .insert(client_id, (session.expiry, session.since))
            .map(drop)
            .map_err(failed("write", self.path))
    }

    fn forget(&mut self, client_id: &str) -> Result<(), SessionError> {
        self.changed = true;
        self.sessions.remove(client_id).map(drop).map_err(failed("write", self.path))?;
        self.give(client_id, &Owner::anybody())?;
        self.open
            .retain_in((client_id, 0)..=(client_id, u16::MAX), |_, ()| false)
            .map_err(failed("write", self.path))
    }
}

impl Session {
    fn has_expired(self, now: Micros) -> bool {
        self.since.is_some() && self.expires_at() <= now.0
    }

    /// Microseconds since 1970; far away while there is a connection.
    fn expires_at(self) -> i64 {
        self.since.map_or(i64::MAX, |since| since.saturating_add(i64::from(self.expiry) * 1_000_000))
    }
}

impl From<(u32, Option<i64>)> for Session {
    fn from((expiry, since): (u32, Option<i64>)) -> Self {
        Self { expiry, since }
    }
}

fn failed<E: Into<redb::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> SessionError {
    move |error| SessionError::Storage { action, path: path.to_owned(), source: Arc::new(error.into()) }
}
