//! The ingress: deliveries from Polar and changes from the application come in over HTTP, are
//! checked, stored together with the jobs that follow from them, and only then acknowledged.
//!
//! A 202 means committed. Everything else means that nothing was stored, with one exception that
//! no server can avoid: where the answer of a commit is lost, the sender hears 503 although the
//! rows are there; its next attempt finds a duplicate, which is a 202.

mod accept;
mod accept_loop;
mod answer;
mod body;
mod changes;
mod delivery;
mod fallback;
mod health;
mod import;
mod readiness;
mod recent;
mod refused;
mod route;
mod row;
mod server;
mod server_probe;
mod state;
mod token;
mod webhook;
mod write_timeout;

pub use accept_loop::Limits;
pub use health::{MetricsPage, operations_router};
pub use import::Import;
pub use refused::{RefusedSummary, refused_deliveries};
pub use route::{handled_event_families, handled_events, jobs_of_delivery, required_events};
pub use server::{BindError, Ingress, IngressSettings, serve_operations};
