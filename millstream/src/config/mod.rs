//! The configuration: one TOML file and the environment, raw at first, then checked.

pub(crate) mod load;
pub(crate) mod problem;
pub(crate) mod raw;
pub(crate) mod settings;
pub(crate) mod stream;

pub(crate) use settings::Settings;

/// Every key with its default and what it is for; `millstream config` prints it, and a test keeps it equal to the program.
pub(crate) const DEFAULTS: &str = include_str!("defaults.toml");

#[cfg(test)]
mod tests;
