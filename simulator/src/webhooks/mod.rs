//! What Polar tells an application leaves in a certain order, is signed, and comes again until it is answered.

pub(crate) mod attempts;
pub(crate) mod dispatch;
mod schedule;
mod sign;
