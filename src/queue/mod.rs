//! The job table; only this module names it, and `bench`, which fills and measures it.
//!
//! What it promises: a job runs at least once and ends in a final state; among waiting jobs at
//! most one has a unique key; jobs of one ordering key run one at a time in commit order; whoever
//! lost its lease changes nothing.
//!
//! The states and every arrow between them are drawn in `docs/states.md`.

pub mod claim;
pub mod columns;
pub mod connect;
pub mod ctid;
pub mod enqueue;
pub mod finish;
pub mod fleet;
pub mod idle;
pub mod kinds;
pub mod lease;
pub mod notifier;
pub mod payload;
pub mod reclaim;
pub mod recovery;
pub mod release;
pub mod runnable;
pub mod table;
