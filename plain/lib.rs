//! The support desk, Plain, as far as we talk to it: six operations over GraphQL, and nothing of ours.
//!
//! Like the client for Polar it makes one call per method and says in [`Error`] what happened; when to
//! try again is decided above. Unlike there the breaker is inside: Plain has no budget that a fleet
//! must share, so each process finds out for itself whether Plain is down.

mod availability;
mod client;
mod error;
mod operations;

pub use availability::Delays;
pub use client::{BuildError, Client, ClientConfig};
pub use error::{Error, HeldReason};
pub use operations::{Customer, CustomerKey, Operation, Tenant, Tier};
