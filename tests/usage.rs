//! Usage and costs: counted once, reported once, proven on demand.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed, and says where

#[path = "usage/commands.rs"]
mod commands;
#[path = "usage/copies.rs"]
mod copies;
#[path = "usage/costs.rs"]
mod costs;
#[path = "usage/killed.rs"]
mod killed;
#[path = "usage/lives.rs"]
mod lives;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "usage/product.rs"]
mod product;
#[path = "usage/proof.rs"]
mod proof;
#[path = "usage/property.rs"]
mod property;
#[path = "usage/recording.rs"]
mod recording;
#[path = "usage/reports.rs"]
mod reports;
#[path = "usage/retention.rs"]
mod retention;
#[path = "usage/storm.rs"]
mod storm;
#[path = "usage/test_app.rs"]
mod test_app;
#[path = "wait/mod.rs"]
mod wait;
#[path = "usage/windows.rs"]
mod windows;
