//! A local Polar over HTTP, with state: customers, members, plans with benefits, checkout and purchase, subscriptions,
//! orders and invoices, grants, events, sessions, signed deliveries; a simulated clock that can be moved, and seeded faults.
//!
//! Why: billing is tried against something that answers as the real server does, refusals and races included, without
//! an account, a network or a wait. It shares no code with the client, so that neither hides the other's mistakes. What
//! it answers was read off the real server: `tests/recordings` holds the exchanges, `docs/polar-facts.md` tells the facts.
//!
//! # The control surface
//!
//! Beside the API (`/v1/…`, bearer token) the same port answers, without a token:
//!
//! | Route | What it does |
//! |---|---|
//! | `GET /simulator/state` | everything Polar holds: customers with members, grants, subscriptions and orders; products, events, deliveries, endpoints |
//! | `GET /simulator/requests` | every API request seen, with its status and body |
//! | `POST /simulator/purchase` | `{"external_customer_id" or "customer_id", "product": "pro", "start": "active", "trial" or "incomplete"}`: checkout and payment |
//! | `POST /simulator/advance` | `{"days", "seconds"}`: moves the simulated clock |
//! | `POST /simulator/faults` | `{"spec"}`: see [`Faults`] |
//! | `POST /simulator/fail` | `{"customer"}`: 500 for the calls about this customer, by either id; null: for nobody any more |
//! | `POST /simulator/gateway` | `{"status", "html", "path"}`: a gateway answers in place of Polar; `"status": null` removes it |
//! | `POST /simulator/scopes` | `{"without": ["benefits:read", ..]}`: what the token may not do; an empty list gives all back |
//! | `POST /simulator/arm` | `{"when": {"method", "path", "point"}, "do": {"method", "path", "body"}}`: what somebody else does during the next such request; points are `arrival`, `commit`, `answer` |
//! | `POST /simulator/webhook` | `{"url", "secret"}`: registers the endpoint; `"url": null` disables it |
//! | `POST /simulator/subscriptions/{id}/{step}` | `cancel`, `uncancel`, `revoke`, `past_due`, `recover`, `unpaid`, `renew`, `pause`, `resume`, `complete`, `expire` |
//! | `POST /simulator/benefits/{id}` | `{"metadata"}`: edits a benefit |
//! | `POST /simulator/deliver` | `{"id"}`: sends a delivery again |
//! | `GET /simulator/invoices/{number}.pdf` | what invoice links point to |

mod faults;
mod faults_text;
mod http;
mod lookups;
mod options;
mod people;
pub mod records;
mod resources;
mod simulator;
mod webhooks;
mod world;

pub use faults::{Faults, FaultsError};
pub use http::armed::{Armed, Intervention};
pub use http::hold::{HeldRequests, RequestMatch};
pub use http::outages::Gateway;
pub use options::Options;
pub use people::OrderStatus;
pub use simulator::{Simulator, StartError};
pub use world::catalogue::Product;
pub use world::lifecycle::Start;
pub use world::steps::{SubscriptionStep, WorldError};
