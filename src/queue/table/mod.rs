//! The job table as operators see it: lists, explanations, and the few changes that people make.
//!
//! Every change re-checks the state in the statement that makes it, so that a worker and a person
//! who act at the same moment never undo each other.

mod act;
mod acted;
mod bulk;
mod explain;
mod failing;
mod list;
mod queues;
mod repeat;
mod revive;

use std::fmt;

use jobs::types::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::types::Json;
use uuid::Uuid;

pub use act::{Action, act};
pub use acted::Acted;
pub use bulk::{act_on_all, count};
pub use explain::{Explanation, HeadOfKey, Holder, explain};
pub use failing::{FailingJob, failing};
pub use list::{caused_by, find, list};
pub use queues::{QueueRow, WorkerRow, pause, queues, resume, workers};

/// A row of `polar_jobs.jobs`. Applications and operators may fill it with any time and any JSON, so
/// neither is taken to pieces here.
#[derive(Clone, Debug, Serialize)]
pub struct JobRow {
    /// The id.
    pub id: i64,
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// What the job is about.
    pub payload: Json<Box<RawValue>>,
    /// Where it stands.
    pub state: State,
    /// Lower runs first.
    pub priority: i16,
    /// Not before.
    pub run_at: Timestamp,
    /// Claims so far.
    pub attempt: i32,
    /// Failures after which it is discarded.
    pub max_attempts: i32,
    /// Among waiting jobs at most one has it.
    pub unique_key: Option<String>,
    /// Jobs of one key run one at a time.
    pub ordering_key: Option<String>,
    /// The worker that has or had it.
    pub worker: Option<i64>,
    /// How long that worker's lease lasts.
    pub leased_until: Option<Timestamp>,
    /// One object per failed attempt.
    pub errors: Json<Box<RawValue>>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When the newest attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What became of its cause.
    pub outcome: Option<String>,
    /// Why it waits or ended, in words.
    pub note: Option<String>,
    /// Whether an earlier unfinished job has the same ordering key.
    pub blocked: bool,
    /// The external events that caused it.
    pub events: Option<Vec<i64>>,
    /// The organization that it is about, where that is known.
    pub organization_id: Option<Uuid>,
    /// Its name.
    pub organization: Option<String>,
}

/// Which jobs are meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this state.
    pub state: Option<State>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this queue.
    pub queue: Option<String>,
    /// Only jobs whose payload or keys name this organization.
    pub organization: Option<Uuid>,
    /// At most so many, of a list the newest, of a change the oldest; `None` = all.
    pub limit: Option<i64>,
}

/// The states of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum State {
    /// Waits.
    Available,
    /// A worker has it.
    Running,
    /// Done.
    Completed,
    /// Failed for good.
    Discarded,
    /// Cancelled by a person, or superseded.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Available,
        Self::Running,
        Self::Completed,
        Self::Discarded,
        Self::Cancelled,
    ];

    /// The word in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Filter {
    /// Whether every job is meant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.state.is_none()
            && self.kind.is_none()
            && self.queue.is_none()
            && self.organization.is_none()
    }

    fn state(&self) -> Option<&'static str> {
        self.state.map(State::name)
    }

    fn organization(&self) -> Option<String> {
        self.organization.map(|id| id.to_string())
    }
}
