//! The application's values, parsed once into types that cannot be wrong: ids that are not mixed
//! up, roles that exist, addresses that have the form of one, costs that are exact.

mod cost_usd;
mod email;
mod id;
mod reading;
mod role;
mod timestamp;

pub use cost_usd::{CostUsd, CostUsdError};
pub use email::{Email, Person};
pub use id::{OrganizationId, UserId};
pub use reading::{CostReading, MAX_QUANTITY, UsageReading};
pub use role::Role;
pub use timestamp::Timestamp;
