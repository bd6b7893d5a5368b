//! The gateway over loopback, byte by byte.

mod acknowledgement;
mod authorization;
mod device;
pub(crate) mod fake_log;
mod harness;
mod hostile;
mod lifetime;
mod sessions;
mod tls;
mod wills;
