//! The organizations API: what an application's billing page needs, thin over Polar, about one
//! organization, and allowed to its people by their roles.
//!
//! Every route asks Polar for what it answers; our tables only say who may ask. Calls go through the
//! fleet's rate limiter in its most urgent class and are answered within ten seconds: where Polar is
//! slow, down or out of budget the answer is 503 with `Retry-After`, and nobody waits. No connection to
//! the database is held meanwhile.

mod access;
mod address;
mod benefit_grants;
mod billing_details;
mod body;
mod caller;
mod cors;
mod customer_session;
mod error;
pub(crate) mod hs256;
mod idempotency;
mod ids;
mod log;
mod mutation;
mod openapi;
mod orders;
mod paging;
mod payment_methods;
mod plans;
mod portal;
mod reply;
mod return_url;
mod router;
mod session_token;
mod startup_program;
mod state;
mod subscription;

pub use address::PeerAddress;
pub use openapi::document;
pub use router::router;
pub use state::ApiSettings;
