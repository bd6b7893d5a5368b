//! SQL over real tables: what a user asks, and what a user reads.

#[cfg(test)]
mod catalog;
#[cfg(test)]
mod client;
#[cfg(test)]
mod delivery;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod large;
#[cfg(test)]
mod pace;
#[cfg(test)]
mod peak;
#[cfg(test)]
mod printing;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod server;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sql;
#[cfg(test)]
mod system;
#[cfg(test)]
mod tail;
