//! What dies dies for real: worker processes by signal 9, Postgres under load, a process that sleeps
//! beyond its lease. Nothing acknowledged is lost.
#![allow(clippy::unwrap_used, missing_docs)] // a test that cannot go on has failed, and says where
#![allow(dead_code)] // shares its fixtures with the tests of the queue

#[path = "crash/connections.rs"]
mod connections;
#[path = "ingress/support.rs"]
mod ingress_support;
#[path = "crash/killed.rs"]
mod killed;
#[path = "queue/ledger.rs"]
mod ledger;
#[path = "crash/process.rs"]
mod process;
#[path = "crash/restarted.rs"]
mod restarted;
#[path = "queue/script.rs"]
mod script;
#[path = "crash/sessions.rs"]
mod sessions;
#[path = "queue/test_app.rs"]
mod test_app;
#[path = "wait/mod.rs"]
mod wait;
