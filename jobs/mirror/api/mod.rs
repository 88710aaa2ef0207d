//! What the organizations API reads and keeps.

pub mod callers;
pub mod change_leases;
pub mod requests;
pub mod resumed;
