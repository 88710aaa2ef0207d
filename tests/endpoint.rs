//! Our webhook endpoint at Polar: watched, made, enabled, its secret changed without a gap.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "endpoint/commands.rs"]
mod commands;
#[path = "endpoint/fixture.rs"]
mod fixture;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "the tests of the command line use the rest")]
mod support;
#[path = "sync/test_app.rs"]
#[allow(dead_code, reason = "the tests of sync use the rest")]
mod test_app;
#[path = "wait/mod.rs"]
#[allow(dead_code, reason = "the tests of the command line use the rest")]
mod wait;
#[path = "endpoint/watch.rs"]
mod watch;
