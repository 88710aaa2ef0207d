//! Found, made, started, crashed, shared, refused.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says where"
)]

#[path = "postgres/fetched.rs"]
mod fetched;
#[path = "postgres/found.rs"]
mod found;
#[path = "postgres/free_port.rs"]
mod free_port;
#[path = "postgres/lifetime.rs"]
mod lifetime;
#[path = "postgres/scratch.rs"]
mod scratch;
