//! What polar-jobs does. The folder listing is the catalogue: one file per kind of job.
//!
//! Adding a job: one new file here, its `mod` and `pub use` lines below, and its line in
//! [`registry`]. If a webhook starts it, the arm in `ingress/route.rs` that the compiler asks for.

pub mod contract;
pub mod mirror;

pub use contract::{Context, Done, Error, Job, NewJob, Registry};

/// Everything that a worker runs.
#[must_use]
pub fn registry() -> Registry {
    Registry::new()
}
