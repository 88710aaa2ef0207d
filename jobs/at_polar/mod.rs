//! What more than one job does at Polar: bringing a member to a customer, moving ownership, and
//! the patience with what is not there yet.

mod address;
mod clash;
mod ownership;
mod patience;
mod seat;

pub(crate) use address::refused_address;
pub(crate) use patience::{NOT_CONFIGURED, patience};
pub(crate) use seat::{Missing, Seat};
