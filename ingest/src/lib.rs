//! Devices to log: the gateway (devices connect to us), the subscriber (we connect to a broker), routing, and `replay` (a device made of files).
//!
//! A message is acknowledged to its device only after the log has it durably. What is in a message is no question here: everything that MQTT allows goes
//! to the log, poison too. This package knows nothing of readings, tables or SQL.

pub mod clock;
pub mod gateway;
pub mod identity;
mod lifecycle;
mod outlet;
pub mod replay;
pub mod route;
pub mod session;
pub mod subscriber;
