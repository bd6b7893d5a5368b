//! The gateway over loopback, byte by byte.

mod acknowledgement;
mod device;
mod fake_log;
mod harness;
mod hostile;
mod lifetime;
mod sessions;
mod wills;
