//! When calls to Polar go out, and what becomes of a job whose call does not succeed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "limiter/fleet.rs"]
mod fleet;
