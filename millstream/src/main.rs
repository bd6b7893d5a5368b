//! `millstream`, the program: subcommands, configuration, wiring, shutdown, logs. What a stage does is in the stage's own package.

mod cli;
mod command;
mod config;
mod descriptors;
mod directory;
mod http;
mod pipeline;
mod shutdown;
mod supervisor;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return telemetry::fail(&anyhow::Error::new(error).context("failed to start the runtime"));
        }
    };
    let ended = runtime.block_on(command::run(cli.command));
    // What still runs after a second signal ends with the process. Dropping the runtime would wait for it, or tear libraries apart in the middle of a step.
    std::mem::forget(runtime);
    ended.unwrap_or_else(|error| telemetry::fail(&error))
}
