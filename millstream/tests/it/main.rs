//! The whole program: the real binary is started, published to, asked, killed. No test looks inside it.
//!
//! Every test has its own data directory and its own port, and waits for what it needs to see, never for time to pass.

#[cfg(test)]
mod apart;
#[cfg(test)]
mod asking;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod brokers;
#[cfg(test)]
mod check_and_config;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod fresh;
#[cfg(test)]
mod gaps;
#[cfg(test)]
mod http;
#[cfg(test)]
mod maintain;
#[cfg(test)]
mod mqtt;
#[cfg(test)]
mod program;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod river;
#[cfg(test)]
mod sql;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod store;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod trim;
#[cfg(test)]
mod up;
