//! Publishes files over MQTT, as devices would: to our own gateway or to any other broker.
//!
//! The way of a line: [`readings`] (a blocking task) makes messages of it, the dispatcher in [`run`] waits for its time, and the client that has its topic
//! publishes it and keeps it until it is acknowledged. All queues between them are bounded, so files of any size take the same memory. It knows nothing of
//! the gateway, the log or streams: everything goes over the wire.

mod bad_line;
mod cell;
mod client;
mod crowd;
mod dial;
mod error;
mod event_time;
mod flight;
mod json_field;
mod lines;
mod link;
mod message;
mod pace;
mod packet;
pub mod progress;
mod readings;
mod rows;
mod settings;
mod source;
mod summary;
mod tally;
mod template;
mod tls;

pub use bad_line::{BadLine, BadLines, NamedLine, Place};
pub use client::Acknowledged;
pub use dial::{Dial, Tcp, Wire};
pub use error::ReplayError;
pub use message::Message;
pub use settings::{
    Broker, Clients, Connection, Credentials, Input, InputFormat, MqttVersion, OnBadLine, Pace, Qos, Rebase,
    Reconnect, ReplaySettings, TlsFiles, WriteMissing,
};
pub use summary::{Latency, Refusal, Refusals, Summary};
pub use template::{BadTemplate, TopicTemplate};
pub use tls::{BadTls, Tls};

use client::Shared;
use crowd::Crowd;
use message::{Reading, Rules};
use pace::Pacer;
use progress::{Phase, Progress, RecentRate, SHOW_EVERY, Silent, Snapshot};
use readings::{Item, Readings, Survey};
use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tally::Tally;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// Messages that are read ahead, so that reading and publishing overlap.
const READ_AHEAD_MESSAGES: usize = 1024;

/// Who is told what during a replay.
#[derive(Clone)]
pub struct Observers {
    /// Shows how far it is.
    pub progress: Arc<dyn Progress>,
    /// Is told of every acknowledged message.
    pub acknowledged: Option<Acknowledged>,
}

impl Default for Observers {
    /// Nobody.
    fn default() -> Self {
        Self { progress: Arc::new(Silent), acknowledged: None }
    }
}

impl Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("progress", &self.progress).finish_non_exhaustive()
    }
}

/// Publishes the files over TCP, or TLS if the settings have it; returns when everything is acknowledged.
///
/// When `shutdown` is cancelled, nothing more is read or published, acknowledgements that are on their way are waited for (bounded), and the summary says
/// `cancelled` and what was not acknowledged: whether that is a failure, the caller decides by [`Summary::is_complete`].
///
/// # Errors
/// If the settings do not fit, a file for TLS is of no use, or the first pass over the files fails, before anything was published. After that every error comes as
/// [`ReplayError::Ended`] with the summary: a file that cannot be read, a bad line if the settings say so, a broker that refuses us or is lost for too long.
pub async fn run(
    settings: ReplaySettings,
    observers: Observers,
    shutdown: CancellationToken,
) -> Result<Summary, ReplayError> {
    let broker = settings.connection.broker.clone();
    let dial: Arc<dyn Dial> = match &settings.connection.tls {
        Some(files) => Arc::new(Tls::new(broker, files)?),
        None => Arc::new(Tcp(broker)),
    };
    run_over(dial, settings, observers, shutdown).await
}

/// As [`run`], over connections that somebody else makes.
///
/// # Errors
/// As [`run`].
pub async fn run_over(
    dial: Arc<dyn Dial>,
    settings: ReplaySettings,
    observers: Observers,
    shutdown: CancellationToken,
) -> Result<Summary, ReplayError> {
    settings.check()?;
    let survey = survey(&settings, &observers, &shutdown).await?;
    let shift = shift_hours(&settings, survey);
    let tally = Arc::new(Tally::new(settings.connection.qos));
    let stop = shutdown.child_token();
    let shared = Shared {
        settings: settings.connection.clone(),
        on_bad_line: settings.input.on_bad_line,
        dial,
        tally: Arc::clone(&tally),
        acknowledged: observers.acknowledged.clone(),
        stop: stop.clone(),
    };
    let start = Instant::now();
    let total = survey.map(|survey| survey.messages);
    let publishing = publish(&settings, shift.unwrap_or(0), Crowd::new(Arc::new(shared)), &tally, &stop);
    let snapshot = |phase_start: Instant| tally.snapshot(Phase::Publishing, total, phase_start.elapsed());
    let ended = show_while(publishing, &observers, snapshot).await;
    let summary =
        tally.summary(start.elapsed(), shift, shutdown.is_cancelled() && !matches!(ended, Ok(Reached::End)));
    match ended {
        Ok(Reached::End | Reached::Stop) => Ok(summary),
        Err(source) => Err(ReplayError::Ended { summary: Box::new(summary), source: Box::new(source) }),
    }
}

/// How far the dispatcher came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// All lines were given to their clients, and all clients have finished.
    End,
    /// It was stopped before.
    Stop,
}

/// The first pass, if the settings need one.
async fn survey(
    settings: &ReplaySettings,
    observers: &Observers,
    shutdown: &CancellationToken,
) -> Result<Option<Survey>, ReplayError> {
    if settings.input.rebase == Rebase::AsRecorded {
        return Ok(None);
    }
    let seen = Arc::new(AtomicU64::new(0));
    let (input, token, counter) = (settings.input.clone(), shutdown.clone(), Arc::clone(&seen));
    let mut reading = JoinSet::new();
    reading.spawn_blocking(move || {
        Survey::of(&input, Rules::new(&input, false, 0), |messages| {
            counter.store(messages, Ordering::Relaxed);
            !token.is_cancelled()
        })
    });
    let tally = Tally::new(settings.connection.qos);
    let snapshot = |start: Instant| Snapshot {
        read: seen.load(Ordering::Relaxed),
        ..tally.snapshot(Phase::Surveying, None, start.elapsed())
    };
    match show_while(reading.join_next(), observers, snapshot).await {
        Some(joined) => joined?.map(Some),
        None => Ok(None),
    }
}

fn shift_hours(settings: &ReplaySettings, survey: Option<Survey>) -> Option<i64> {
    match settings.input.rebase {
        Rebase::AsRecorded => None,
        Rebase::EndAt(now) => survey?.newest.map(|newest| event_time::hours_to(newest, now)),
    }
}

/// Reads, dispatches, and waits for the acknowledgements.
async fn publish(
    settings: &ReplaySettings,
    shift_hours: i64,
    mut crowd: Crowd,
    tally: &Tally,
    stop: &CancellationToken,
) -> Result<Reached, ReplayError> {
    let rules = Rules::new(&settings.input, settings.pace.speed.is_some(), shift_hours);
    let readings = Readings::new(&settings.input, rules);
    let (sender, mut items) = mpsc::channel(READ_AHEAD_MESSAGES);
    let mut reading = JoinSet::new();
    reading.spawn_blocking(move || {
        for item in readings {
            // The dispatcher has ended: nothing is to be read any more.
            if sender.blocking_send(item).is_err() {
                return;
            }
        }
    });
    let dispatched = dispatch(&mut items, &mut crowd, Pacer::new(settings.pace), tally, stop).await;
    drop(items);
    // A file that cannot be read any further ends the replay as its end would: what was read before is published and acknowledged.
    let finished = crowd.finish().await;
    let read = reading.join_next().await.unwrap_or(Ok(()));
    let reached = dispatched?;
    let complete = finished?;
    read?;
    Ok(if complete { reached } else { Reached::Stop })
}

/// Gives every message to its client in its time, until the files end or it is stopped.
async fn dispatch(
    items: &mut mpsc::Receiver<Result<Item, ReplayError>>,
    crowd: &mut Crowd,
    mut pacer: Pacer,
    tally: &Tally,
    stop: &CancellationToken,
) -> Result<Reached, ReplayError> {
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Reached::Stop),
            next = items.recv() => next,
        };
        let Reading { message, time } = match next.transpose()? {
            None => return Ok(Reached::End),
            Some(Item::Reading(reading)) => reading,
            Some(Item::Bad(place, reason)) => {
                tally.bad_line(&place, &reason);
                continue;
            }
        };
        tally.read();
        let now = Instant::now();
        let due = pacer.due(time, now);
        let publishing = async {
            if due > now {
                sleep_until(due).await;
            }
            crowd.publish(message).await
        };
        let taken = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            taken = publishing => taken,
        };
        if !taken {
            return Ok(Reached::Stop);
        }
    }
}

/// Does the work and shows how far it is meanwhile.
async fn show_while<T>(
    work: impl Future<Output = T>,
    observers: &Observers,
    snapshot: impl Fn(Instant) -> Snapshot,
) -> T {
    let start = Instant::now();
    let mut ticks = interval(SHOW_EVERY);
    let mut rate = RecentRate::default();
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            _ = ticks.tick() => {
                let now = snapshot(start);
                observers.progress.show(&Snapshot { rate: rate.update(now.elapsed, now.done), ..now });
            }
        }
    };
    let last = snapshot(start);
    if last.phase == Phase::Publishing {
        observers.progress.finish(&Snapshot { rate: tally::per_second(last.done, last.elapsed), ..last });
    }
    done
}

#[cfg(test)]
mod tests;
