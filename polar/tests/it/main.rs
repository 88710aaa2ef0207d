//! The client against recorded answers of the real Polar, over real HTTP on a port of its own.
#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod deliveries;
#[path = "../../../simulator/tests/common/description.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "the simulator's tests use the rest"
)]
mod description;
mod exchange;
mod paging;
mod refusals;
#[path = "../../../simulator/tests/common/request.rs"]
#[allow(
    missing_docs,
    unreachable_pub,
    reason = "as the simulator's tests have it"
)]
mod request;
mod resources;
mod signatures;
mod support;
