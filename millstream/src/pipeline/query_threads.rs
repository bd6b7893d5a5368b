//! Threads for queries alone. A statement may keep as many of them busy as there are, for as long as it may take: devices, commits and probes have others, and the
//! system deals out the cores.

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};

/// As many threads as there are cores, until this is dropped.
#[derive(Debug)]
pub(super) struct QueryThreads(Option<Runtime>);

impl QueryThreads {
    pub(super) fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name("query").enable_all().build();
        Ok(Self(Some(runtime.context("failed to start the threads for queries")?)))
    }

    pub(super) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for QueryThreads {
    /// Waits for nobody: what still runs has lost its client.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
