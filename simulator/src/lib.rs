//! A local Polar over HTTP, with state: customers, members, plans with benefits, checkout and purchase, subscriptions,
//! orders and invoices, grants, events, the customer portal, signed deliveries; a simulated clock that can be moved, and seeded faults.
//!
//! Billing is tried against something that answers as the real server does, refusals and races included, without
//! an account, a network or a wait. It shares no code with the client, so that neither hides the other's mistakes. What
//! it answers was read off the real server: `tests/recordings` holds the exchanges, `docs/polar-facts.md` tells the facts.
//!
//! # The control surface
//!
//! Beside the API (`/v1/…`, bearer token) the same port answers the routes of [`CONTROL_ROUTES`] without a token: looking into
//! the world, and letting things happen in it. Its root is a page for people.

mod faults;
mod faults_text;
mod http;
mod lookups;
mod options;
mod people;
mod plain;
pub mod records;
mod resources;
mod simulator;
mod webhooks;
mod world;

pub use faults::{Faults, FaultsError};
pub use http::armed::{Armed, Intervention};
pub use http::control_routes::{CONTROL_ROUTES, ControlRoute};
pub use http::hold::{HeldRequests, RequestMatch};
pub use http::outages::Gateway;
pub use options::Options;
pub use people::OrderStatus;
pub use plain::{
    PlainCustomerRecord, PlainFault, PlainOptions, PlainOutage, PlainRequestRecord, PlainSimulator,
    PlainTenantRecord,
};
pub use simulator::{Simulator, StartError};
pub use world::catalogue::Product;
pub use world::invoices::InvoiceFault;
pub use world::lifecycle::Start;
pub use world::steps::{SubscriptionStep, WorldError};
