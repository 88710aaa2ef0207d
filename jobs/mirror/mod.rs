//! The only SQL that jobs use: what the application wants, and what was counted for it.

pub mod costs;
pub mod usage;
