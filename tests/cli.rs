//! The binary, driven from outside as people and process managers do.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

#[path = "cli/billing_page.rs"]
mod billing_page;
#[path = "cli/browser.rs"]
mod browser;
#[path = "cli/catalogue.rs"]
mod catalogue;
#[path = "wire/detour.rs"]
mod detour;
#[path = "cli/dev.rs"]
mod dev;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/dotenv.rs"]
mod dotenv;
#[path = "../private-postgres/tests/postgres/free_port.rs"]
mod free_port;
#[path = "cli/jobs.rs"]
mod jobs;
#[path = "cli/lists.rs"]
mod lists;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "cli/logging.rs"]
mod logging;
#[path = "cli/metrics.rs"]
mod metrics;
#[path = "cli/migrate.rs"]
mod migrate;
#[path = "cli/names.rs"]
mod names;
#[path = "cli/operators.rs"]
mod operators;
#[path = "cli/pool_of_two.rs"]
mod pool_of_two;
#[path = "cli/pooler.rs"]
mod pooler;
#[path = "cli/roles.rs"]
mod roles;
#[path = "cli/rows.rs"]
mod rows;
#[path = "cli/signals.rs"]
mod signals;
#[path = "cli/simulator.rs"]
mod simulator;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/test_pooler.rs"]
mod test_pooler;
#[path = "cli/texts.rs"]
mod texts;
#[path = "cli/unreachable.rs"]
mod unreachable;
#[path = "cli/usage.rs"]
mod usage;
#[path = "wait/mod.rs"]
mod wait;
#[path = "cli/watch.rs"]
mod watch;
