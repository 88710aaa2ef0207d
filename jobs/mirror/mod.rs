//! The only SQL that jobs use: what the application wants, what Polar was seen to hold, and what
//! was counted.

pub mod api;
pub mod application;
pub mod asking;
pub mod backfill;
pub mod benefits;
pub mod clock;
pub mod costs;
pub mod differences;
pub mod erasure;
pub mod events;
pub mod fees;
pub mod held;
pub mod mails;
pub mod members;
pub mod organizations;
pub mod out_of_step;
pub mod prune;
pub mod seen;
pub mod startup_programs;
pub mod subscriptions;
pub mod support_desk;
pub mod unsynced;
pub mod usage;
pub mod wanted;
pub mod webhook_endpoint;
