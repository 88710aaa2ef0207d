//! A local Polar over HTTP, with state: customers, members, plans with benefits, checkout and purchase, subscriptions,
//! orders and invoices, grants, events, sessions, signed deliveries; a story clock that can be moved, and seeded mishaps.
//!
//! Why: billing is tried against something that answers as the real server does, refusals and races included, without
//! an account, a network or a wait. It shares no code with the client, so that neither hides the other's mistakes. What
//! it answers was read off the real server; `polar-domain (x.y)` and `R1`–`R37` name the facts.
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
//! | `POST /simulator/advance` | `{"days", "seconds"}`: moves the story clock |
//! | `POST /simulator/faults` | `{"spec"}`: see [`Faults`] |
//! | `POST /simulator/fail` | `{"customer"}`: 500 for the calls about this customer, by either id; null: for nobody any more |
//! | `POST /simulator/gateway` | `{"status", "html", "path"}`: a gateway answers in place of Polar; `"status": null` removes it |
//! | `POST /simulator/scopes` | `{"without": ["benefits:read", ..]}`: what the token may not do; an empty list gives all back |
//! | `POST /simulator/arm` | `{"when": {"method", "path", "point"}, "do": {"method", "path", "body"}}`: what somebody else does during the next such request; points are `arrival`, `commit`, `answer` |
//! | `POST /simulator/webhook` | `{"url", "secret"}`: registers the endpoint; `"url": null` disables it |
//! | `POST /simulator/subscriptions/{id}/{act}` | `cancel`, `uncancel`, `revoke`, `past_due`, `recover`, `unpaid`, `renew`, `pause`, `resume`, `complete`, `expire` |
//! | `POST /simulator/benefits/{id}` | `{"metadata"}`: edits a benefit |
//! | `POST /simulator/deliver` | `{"id"}`: sends a delivery again |
//! | `GET /simulator/invoices/{number}.pdf` | what invoice links point to |

mod access;
mod acts;
mod benefits;
mod billing;
mod call;
mod catalogue;
mod checkouts;
mod clock;
mod connection;
mod control;
mod customer_body;
mod customer_departure;
mod customers;
mod decimal;
mod discounts;
mod endings;
mod errors;
mod event_rules;
mod events;
mod fault_spec;
mod faults;
mod gate;
mod grants;
mod inspect;
mod interventions;
mod lifecycle;
mod lookups;
mod member_body;
mod members;
mod model;
mod options;
mod order_views;
mod orders;
mod organizations;
mod outages;
mod paging;
mod products;
pub mod records;
mod respond;
mod route;
mod route_table;
mod routes;
mod server;
mod sessions;
mod shared;
mod simulator;
mod store;
mod story;
mod subscription_body;
mod subscription_changes;
mod subscriptions;
mod validation;
mod views;
mod webhooks;

pub use acts::OrderStatus;
pub use catalogue::Product;
pub use faults::{Faults, FaultsError};
pub use gate::{Gate, RequestMatch};
pub use interventions::{Armed, Intervention};
pub use lifecycle::Start;
pub use options::Options;
pub use outages::Gateway;
pub use simulator::{Simulator, StartError};
pub use story::{Act, StoryError};
