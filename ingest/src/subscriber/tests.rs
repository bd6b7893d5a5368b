//! The subscriber against a real mosquitto, and against a broker that a test plays by itself.

mod harness;
mod mosquitto;
mod played;
mod real;
mod scripted;
mod secured;
mod session;
mod trouble;
