//! How polar-jobs runs. Three layers, kept by the manifests: `polar` (who we talk to) below
//! `jobs` (what we do) below this one.
//!
//! Data goes one way: `ingress` and `schedule` write jobs, `queue` holds them, `worker` runs them,
//! `limiter` stands between every job and Polar.

pub mod api;
pub mod bench;
pub mod cli;
pub mod config;
pub mod ingress;
pub mod limiter;
pub mod migrate;
pub mod operators;
pub mod queue;
pub mod release;
pub mod replay;
pub mod schedule;
mod sqlstate;
pub mod telemetry;
pub mod worker;
