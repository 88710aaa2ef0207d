//! Stored events, once more: for real, and as a shadow.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "replay/again.rs"]
mod again;
#[path = "replay/commands.rs"]
mod commands;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "replay/shadow.rs"]
mod shadow;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "the tests of the command line use the rest")]
mod support;
#[path = "sync/test_app.rs"]
#[allow(dead_code, reason = "the tests of sync use the rest")]
mod test_app;
#[path = "wait/mod.rs"]
#[allow(dead_code, reason = "the tests of the command line use the rest")]
mod wait;
