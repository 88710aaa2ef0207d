//! Customers and members at Polar follow what the application tells, whatever the order.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "sync/addresses.rs"]
mod addresses;
#[path = "sync/application.rs"]
mod application;
#[path = "sync/backlog.rs"]
mod backlog;
#[path = "sync/benefits.rs"]
mod benefits;
#[path = "sync/by_hand.rs"]
mod by_hand;
#[path = "sync/call_app.rs"]
mod call_app;
#[path = "sync/catalogue.rs"]
mod catalogue;
#[path = "sync/changes.rs"]
mod changes;
#[path = "sync/customers.rs"]
mod customers;
#[path = "sync/faults.rs"]
mod faults;
#[path = "sync/fees.rs"]
mod fees;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "sync/meetings.rs"]
mod meetings;
#[path = "sync/members.rs"]
mod members;
#[path = "sync/out_of_step.rs"]
mod out_of_step;
#[path = "sync/ownership.rs"]
mod ownership;
#[path = "sync/prune.rs"]
mod prune;
#[path = "sync/restored.rs"]
mod restored;
#[path = "sync/state_changed.rs"]
mod state_changed;
#[path = "sync/strangers.rs"]
mod strangers;
#[path = "sync/subscriptions.rs"]
mod subscriptions;
#[path = "sync/test_app.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod test_app;
#[path = "wait/mod.rs"]
mod wait;
