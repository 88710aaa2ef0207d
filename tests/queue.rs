//! The queue and its worker through their public interfaces: jobs in by SQL and by Rust, a worker between,
//! tables out.
#![allow(clippy::unwrap_used, missing_docs)] // a test that cannot go on has failed, and says where

#[path = "queue/ahead.rs"]
mod ahead;
#[path = "queue/application.rs"]
mod application;
#[path = "queue/attempts.rs"]
mod attempts;
#[path = "queue/backlog.rs"]
mod backlog;
#[path = "queue/claims.rs"]
mod claims;
#[path = "queue/contended.rs"]
mod contended;
#[path = "queue/cut.rs"]
mod cut;
#[path = "queue/endings.rs"]
mod endings;
#[path = "queue/ledger.rs"]
mod ledger;
#[path = "queue/model.rs"]
mod model;
#[path = "queue/order.rs"]
mod order;
#[path = "queue/outcomes.rs"]
mod outcomes;
#[path = "queue/payload.rs"]
mod payload;
#[path = "queue/proxy.rs"]
mod proxy;
#[path = "queue/reclaim.rs"]
mod reclaim;
#[path = "queue/script.rs"]
mod script;
#[path = "queue/stop.rs"]
mod stop;
#[path = "queue/test_app.rs"]
mod test_app;
#[path = "queue/unique.rs"]
mod unique;
#[path = "queue/wake.rs"]
mod wake;
