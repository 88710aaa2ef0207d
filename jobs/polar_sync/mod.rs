//! What more than one job does at Polar: making a person a member of a customer, moving ownership,
//! and noting what could not be done.

mod address;
mod address_clash;
mod backoff;
mod customer;
mod erasure;
mod failure;
mod ownership;
mod target;

pub(crate) use address::refused_address;
pub(crate) use backoff::Backoff;
pub(crate) use customer::PolarCustomer;
pub(crate) use failure::Failure;
pub(crate) use target::SyncTarget;
