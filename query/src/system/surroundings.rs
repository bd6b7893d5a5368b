//! What the system tables of one query look at: both buckets, what is configured, the log. What was looked at is kept for the query, so that all of its system tables
//! say the same.

use super::wanted::Wanted;
use crate::definitions::Definitions;
use crate::handles::Handles;
use crate::runtime::{INGESTION, REPORTING};
use datafusion::catalog::SchemaProvider;
use datafusion::error::{DataFusionError, Result};
use futures::{StreamExt, TryStreamExt, stream};
use millstream_lake::{Bucket, LakeError, Snapshot, Table};
use millstream_log::Log;
use millstream_model::name::{LIFECYCLE, QUARANTINE};
use millstream_model::stream::Stream;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Tables that are looked at at a time.
pub(super) const LOOKS_AT_ONCE: usize = 16;

/// A table and its latest version; none where there is no table.
pub(super) type Found = Option<(Table, Arc<Snapshot>)>;

/// What the system tables of one query look at.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) ingestion: Arc<Handles>,
    pub(crate) reporting: Arc<Handles>,
    pub(crate) definitions: Arc<Definitions>,
    /// `None`: only what is committed is known.
    pub(crate) log: Option<Arc<dyn Log>>,
    /// The schema `ingestion` as this query sees it, with what waits in the log.
    pub(crate) tables: Arc<dyn SchemaProvider>,
    pub(crate) memory: Memory,
}

/// One look at a table, which all wait for who need it.
type Look = Arc<OnceCell<Found>>;

/// What was looked at already.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    names: [OnceCell<Vec<String>>; 2],
    tables: Mutex<HashMap<(Place, String), Look>>,
}

/// One of both buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Ingestion,
    Reporting,
}

impl Place {
    /// The schema in which SQL finds its tables.
    pub(super) fn schema(self) -> &'static str {
        match self {
            Self::Ingestion => INGESTION,
            Self::Reporting => REPORTING,
        }
    }
}

/// A table that there is.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) place: Place,
    pub(super) table: Table,
    pub(super) snapshot: Arc<Snapshot>,
}

impl Surroundings {
    fn handles(&self, place: Place) -> &Handles {
        match place {
            Place::Ingestion => &self.ingestion,
            Place::Reporting => &self.reporting,
        }
    }

    pub(super) fn bucket(&self, place: Place) -> &Bucket {
        self.handles(place).bucket()
    }

    /// The names of a bucket's tables, sorted.
    pub(super) async fn names(&self, place: Place) -> Result<&[String]> {
        let names = &self.memory.names[place as usize];
        let listed = names.get_or_try_init(|| self.bucket(place).table_names()).await;
        listed.map(Vec::as_slice).map_err(external)
    }

    /// A table, at the version that it had when this query first looked.
    pub(super) async fn look(&self, place: Place, name: &str) -> Result<Found, LakeError> {
        let cell = {
            let mut tables = self.memory.tables.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tables.entry((place, name.to_owned())).or_default())
        };
        cell.get_or_try_init(|| self.handles(place).look(name)).await.cloned()
    }

    /// The tables of both buckets that are wanted by schema and name, in that order.
    pub(super) async fn tables(&self, wanted: &Wanted) -> Result<Vec<Known>> {
        let mut places = Vec::new();
        for place in [Place::Ingestion, Place::Reporting] {
            for name in self.names(place).await? {
                if wanted.about([place.schema(), name])? {
                    places.push((place, name.clone()));
                }
            }
        }
        let looks = stream::iter(places).map(|(place, name)| async move {
            let found = self.look(place, &name).await.map_err(external)?;
            Ok::<_, DataFusionError>(found.map(|(table, snapshot)| Known { place, table, snapshot }))
        });
        let found: Vec<Option<Known>> = looks.buffered(LOOKS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The definition of a stream, if it is configured.
    pub(super) fn stream(&self, name: &str) -> Option<&Arc<Stream>> {
        self.definitions.stream(name)
    }

    /// The streams that are configured, and those that have a table, sorted: quarantine is none.
    pub(super) async fn stream_names(&self) -> Result<BTreeSet<&str>> {
        let tables = self.names(Place::Ingestion).await?.iter().map(String::as_str);
        let configured = self.definitions.streams.iter().map(|stream| stream.name.as_str());
        Ok(tables.chain(configured).filter(|name| *name != QUARANTINE).collect())
    }

    /// The streams of devices' readings that can be asked: not connects and disconnects.
    pub(super) async fn reading_names(&self) -> Result<BTreeSet<&str>> {
        let mut names = self.stream_names().await?;
        names.remove(LIFECYCLE);
        Ok(names)
    }
}

/// An error of the lake, on its way through the engine.
pub(super) fn external(error: LakeError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// What is wrong with a table of the query, for a column that says so.
pub(super) fn problem(error: &DataFusionError) -> String {
    match error {
        DataFusionError::External(error) => chain(error.as_ref()),
        other => chain(other),
    }
}

/// An error with its causes, for a column that says what is wrong.
pub(super) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
