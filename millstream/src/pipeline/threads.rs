//! Threads for SQL alone. A statement may keep as many of them busy as there are, for as long as it may take: devices, commits and probes have others, and the
//! system deals out the cores.

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};

/// As many threads as there are cores, until this is dropped.
#[derive(Debug)]
pub(super) struct Threads {
    handle: Handle,
    /// Taken by the end only.
    runtime: Option<Runtime>,
}

impl Threads {
    pub(super) fn start(name: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name(name).enable_all().build();
        let runtime = runtime.with_context(|| format!("failed to start the threads for {name}"))?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where tasks are started on them.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    /// Waits for nobody: what still runs has lost its client.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
