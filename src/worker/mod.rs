//! The worker: apalis runs the jobs, our own table feeds it. apalis is named in `backend.rs`,
//! `acknowledge.rs` and `monitor.rs` and nowhere else.
//!
//! One process is one worker with a lease. Each queue has *lanes* that store what was finished and
//! claim the next in one commit, an apalis worker that runs what was claimed, and slots that bound
//! both: a slot is held from the claim until the end of its job is stored. Short jobs are claimed ahead,
//! beyond the slots, so that one commit serves many.

mod acknowledge;
mod attempt;
mod backend;
mod catch_up;
mod desk;
mod ending;
mod facts;
mod keeper;
mod lane;
mod meters;
mod monitor;
mod patience;
mod reach;
mod rescuer;
mod run;
mod settle;
mod slots;

pub use attempt::Mask;
pub use run::{QueueSlots, WorkerError, WorkerSettings, run};
