//! The queue and its worker through their front doors: jobs in by SQL and by Rust, a worker between,
//! tables out.
#![allow(clippy::unwrap_used, missing_docs)] // a test that cannot go on has failed, and says where

#[path = "queue/claims.rs"]
mod claims;
#[path = "queue/endings.rs"]
mod endings;
#[path = "queue/ledger.rs"]
mod ledger;
#[path = "queue/order.rs"]
mod order;
#[path = "queue/script.rs"]
mod script;
#[path = "queue/stand.rs"]
mod stand;
#[path = "queue/unique.rs"]
mod unique;
