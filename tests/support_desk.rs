//! The support desk follows what the application tells and what grants give, and its failures are nobody else's.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "support_desk/fixture.rs"]
mod fixture;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "support_desk/outages.rs"]
mod outages;
#[path = "support_desk/people.rs"]
mod people;
#[path = "support_desk/tenants.rs"]
mod tenants;
#[path = "sync/test_app.rs"]
#[allow(dead_code, reason = "the tests of sync use the rest")]
mod test_app;
#[path = "wait/mod.rs"]
mod wait;
