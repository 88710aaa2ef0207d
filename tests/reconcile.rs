//! Whether we and Polar agree, and what operators do about one organization: comparing, repairing, showing, erasing,
//! loading many.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

#[path = "reconcile/backfill.rs"]
mod backfill;
#[path = "reconcile/command.rs"]
mod command;
#[path = "densest/mod.rs"]
mod densest;
#[path = "reconcile/differences.rs"]
mod differences;
#[path = "reconcile/erasure.rs"]
mod erasure;
#[path = "../private-postgres/tests/postgres/free_port.rs"]
mod free_port;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "mail/mail_server.rs"]
#[allow(dead_code, reason = "the tests of mail use the rest")]
mod mail_server;
#[path = "reconcile/organizations.rs"]
mod organizations;
#[path = "reconcile/other_token.rs"]
mod other_token;
#[path = "reconcile/outage.rs"]
mod outage;
#[path = "reconcile/random/mod.rs"]
mod random;
#[path = "reconcile/strangers.rs"]
mod strangers;
#[path = "sync/test_app.rs"]
#[allow(dead_code, reason = "the tests of the syncs use the rest")]
mod test_app;
#[path = "wait/mod.rs"]
mod wait;
