//! What every job agrees to: a job is a value with its policy beside it, its run returns what should
//! happen next, and follow-up jobs are returned as well, never written by the job itself.

mod context;
mod done;
mod error;
mod job;
mod new_job;
mod registry;
mod retry;
mod subject;
mod transaction;

pub use context::{Context, Fees, JobFacts, Settings, SupportDesk};
pub(crate) use done::NOT_CONFIGURED;
pub use done::{Done, Outcome};
pub use error::{Error, Verdict};
pub use job::{CatchUp, Job, Queue, Scheduled, priority};
pub use new_job::NewJob;
pub use registry::{Entry, Registry, Schedule};
pub use retry::Retry;
pub use subject::subject_of;
pub use transaction::{BEGIN, begin, in_time};
