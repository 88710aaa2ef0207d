//! The ingress, from outside: real HTTP, a real database.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says where"
)]

#[path = "../private-postgres/tests/postgres/free_port.rs"]
mod free_port;
#[path = "ingress/support.rs"]
mod support;
#[path = "wait/mod.rs"]
mod wait;
#[path = "wire/mod.rs"]
mod wire;

#[path = "ingress/bodies.rs"]
mod bodies;
#[path = "ingress/changes.rs"]
mod changes;
#[path = "ingress/crash.rs"]
mod crash;
#[path = "ingress/failures.rs"]
mod failures;
#[path = "ingress/few_connections.rs"]
mod few_connections;
#[path = "ingress/garbage.rs"]
mod garbage;
#[path = "ingress/http_and_sql.rs"]
mod http_and_sql;
#[path = "ingress/limits.rs"]
mod limits;
#[path = "ingress/ready.rs"]
mod ready;
#[path = "ingress/server.rs"]
mod server;
#[path = "ingress/signatures.rs"]
mod signatures;
#[path = "ingress/webhook.rs"]
mod webhook;
