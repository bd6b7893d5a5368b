//! The configuration: one TOML file and the environment, raw at first, then checked.

pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod lake;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod problem;
pub(crate) mod raw;
mod report;
pub(crate) mod secret;
pub(crate) mod settings;
pub(crate) mod sql;
pub(crate) mod stream;
pub(crate) mod subscriber;
mod telemetry;
pub(crate) mod upkeep;
mod value;

pub(crate) use settings::Settings;

/// Every key with its default and what it is for; `millstream config` prints it, and a test keeps it equal to the program.
pub(crate) const DEFAULTS: &str = include_str!("defaults.toml");

#[cfg(test)]
mod tests;
