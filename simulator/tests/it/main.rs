//! The local Polar as a stranger sees it: every test calls it over HTTP. One program, because linking costs more than running.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

mod by_hand;
mod checkout_pages;
#[path = "../common/mod.rs"]
mod common;
mod control;
mod corrections;
mod deliveries;
#[path = "../common/description.rs"]
#[allow(unreachable_pub, missing_docs, dead_code)] // other programs include it, too
mod description;
mod faults;
mod interventions;
mod limits;
mod lives;
mod outages;
mod people;
mod portal;
mod proration;
mod races;
mod recordings;
#[path = "../common/replay.rs"]
#[allow(unreachable_pub, missing_docs, dead_code)] // other programs include it, too
mod replay;
mod routes;
#[path = "../common/script.rs"]
#[allow(unreachable_pub, missing_docs, dead_code)] // other programs include it, too
mod script;
#[path = "../common/values.rs"]
#[allow(unreachable_pub, missing_docs, dead_code)] // other programs include it, too
mod values;
