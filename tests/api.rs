//! The organizations API, through HTTP: who may do what, and that what it answers is true.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "api/app.rs"]
mod app;
#[path = "api/callers.rs"]
mod callers;
#[path = "api/changes.rs"]
mod changes;
#[path = "api/description.rs"]
mod description;
#[path = "api/failures.rs"]
mod failures;
#[path = "../private-postgres/tests/postgres/free_port.rs"]
mod free_port;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "api/logs.rs"]
mod logs;
#[path = "api/orders.rs"]
mod orders;
#[path = "api/plans.rs"]
mod plans;
#[path = "api/portal.rs"]
mod portal;
#[path = "api/repeated.rs"]
mod repeated;
#[path = "api/startup.rs"]
mod startup;
#[path = "api/startup_command.rs"]
mod startup_command;
#[path = "sync/test_app.rs"]
#[allow(dead_code, reason = "the tests of syncing use the rest")]
mod test_app;
#[path = "wait/mod.rs"]
mod wait;
