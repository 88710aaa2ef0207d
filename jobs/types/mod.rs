//! The application's values, parsed once into types that cannot be wrong: ids that are not mixed
//! up, roles that exist, addresses that have the form of one.

mod email;
mod id;
mod role;

pub use email::{Email, Person};
pub use id::{OrganizationId, UserId};
pub use role::Role;
