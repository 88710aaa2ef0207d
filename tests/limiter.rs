//! When calls to Polar go out, and what becomes of a job whose call does not succeed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "densest/mod.rs"]
mod densest;
#[path = "limiter/fleet.rs"]
mod fleet;
#[path = "../private-postgres/tests/postgres/free_port.rs"]
mod free_port;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "limiter/through_a_gateway.rs"]
mod through_a_gateway;
#[path = "limiter/verdicts.rs"]
mod verdicts;
#[path = "wait/mod.rs"]
mod wait;
