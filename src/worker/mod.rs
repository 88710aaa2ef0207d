//! The worker: apalis runs the jobs, our own table feeds it. apalis is named in `adapter.rs` and nowhere
//! else.
//!
//! One process is one worker with a lease. Each queue has *fetchers* that store what was finished and
//! claim the next in one commit, an apalis worker that runs what was claimed on tasks of their own,
//! and slots that bound both: a slot is held from the claim until the end of its job is stored. Short jobs
//! are claimed ahead, beyond the slots, so that one commit serves many, and run one after another on a task.

mod adapter;
mod attempt;
mod backoff;
mod batch;
mod catch_up;
mod completion_buffer;
mod database_clock;
mod fetch_connections;
mod fetcher;
mod follow_ups;
mod held_jobs;
mod housekeeping;
mod lease_keeper;
mod metrics;
mod prefetch;
mod process;
mod result;
mod result_sink;
mod slots;
mod sync_lag;
mod watched;
mod yielding;

pub use attempt::Mask;
pub use process::{QueueSlots, WorkerError, WorkerSettings, run};
