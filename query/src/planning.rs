//! Where questions are planned: on threads of their own, because planning never pauses, takes far more stack than a thread of the runtime has, and may take minutes for a question of
//! many tables with many columns. Whoever waits for a plan can give up at any time.
//!
//! A planner that nobody waits for any more cannot be ended from outside. It keeps its place until it sees that its time is over (`watch`), so that there are never more of them than
//! there are places; who finds none free waits, as long as his question may take. The end of the program waits for none of them.

mod watch;

pub(crate) use watch::{check as check_time, watch, watched};

use crate::error::{QueryError, QueryErrorKind};
use crate::rescue::rescued;
use crate::statement::STACK_BYTES;
use std::sync::Arc;
use std::thread;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, oneshot};

/// The fewest that may plan at a time: one that takes long must not keep everybody waiting.
const PLACES_MIN: usize = 2;

/// The places of one session. Its clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Planners {
    places: Arc<Semaphore>,
}

impl Planners {
    /// With as many places as threads are of use.
    pub(crate) fn new(cores: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(cores.max(PLACES_MIN))) }
    }

    /// What is planned, in a place of its own.
    pub(crate) async fn plan<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        // What plans is large, and would be a part of whoever waits.
        let work = Box::pin(work);
        let failed = |why: &str| QueryError::new(QueryErrorKind::Internal, format!("failed to plan: {why}"));
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| failed(&error.to_string()))?;
        let (mut done, planned) = oneshot::channel();
        let runtime = Handle::current();
        let begun =
            thread::Builder::new().name("planner".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                // Who asked may go, and then what it waits for, a store or a log, is of no use.
                let plan = runtime.block_on(async {
                    tokio::select! {
                        plan = rescued(work) => Some(plan),
                        () = done.closed() => None,
                    }
                });
                drop(place);
                if let Some(plan) = plan {
                    drop(done.send(plan));
                }
            });
        let begun = begun.map_err(|error| failed(&error.to_string()))?;
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            // A runtime of one thread takes itself for idle while another thread works for it, and where its clock is set by hand, it would move that on.
            drop(tokio::task::spawn_blocking(|| drop(begun.join())));
        }
        planned.await.map_err(|error| failed(&error.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn who_gives_up_leaves_the_place_to_the_planner_until_it_ends() {
        let planners = Planners::new(1);
        let (ends, end): (Vec<_>, Vec<_>) = (0..PLACES_MIN).map(|_| mpsc::channel::<()>()).unzip();
        for end in end {
            let (begun, begins) = oneshot::channel();
            let work = async move {
                begun.send(()).unwrap();
                end.recv().unwrap_err();
                Ok(())
            };
            tokio::select! {
                _ = planners.plan(work) => panic!("nobody has let it end"),
                _ = begins => {}
            }
        }
        assert_eq!(planners.places.available_permits(), 0);
        let mut next = Box::pin(planners.plan(async { Ok("planned") }));
        assert!(futures::poll!(&mut next).is_pending());
        drop(ends);
        assert_eq!(next.await.unwrap(), "planned");
    }

    #[tokio::test]
    async fn a_planner_that_panics_is_an_error_and_leaves_its_place() {
        let planners = Planners::new(1);
        for _ in 0..=PLACES_MIN {
            let error = planners.plan::<()>(async { panic!("too much") }).await.unwrap_err();
            assert!(error.to_string().contains("too much"), "{error}");
        }
    }
}
