//! The client against recorded answers of the real Polar, over real HTTP on a port of its own.
#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod deliveries;
mod exchange;
mod paging;
mod refusals;
mod resources;
mod signatures;
mod support;
