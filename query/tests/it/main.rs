//! SQL over real tables: what a user asks, and what a user reads.

#[cfg(test)]
mod errors;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod printing;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sql;
