//! What a person may do to one job: run it now or again, cancel it, give it up.

use sqlx::PgPool;

use super::acted::Acted;
use super::wake::wake;
use super::{State, revive};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run a waiting job now, or a finished one again.
    Retry,
    /// Take an unfinished job back.
    Cancel,
    /// Discard an unfinished job: like a cancellation, but it counts as a failure.
    Discard,
    /// Take note of a discarded job: nothing warns of it any more.
    Acknowledge,
}

impl Acted {
    /// Whether something was done.
    #[must_use]
    pub fn happened(&self) -> bool {
        matches!(
            self,
            Self::RunsNow { .. }
                | Self::WaitsAgain { .. }
                | Self::Ended { .. }
                | Self::Acknowledged
        )
    }
}

impl Action {
    /// Whether there is anything to do to jobs in this state.
    #[must_use]
    pub const fn applies_to(self, state: State) -> bool {
        match self {
            Self::Retry => !matches!(state, State::Running),
            Self::Cancel | Self::Discard => matches!(state, State::Available | State::Running),
            Self::Acknowledge => matches!(state, State::Discarded),
        }
    }

    /// What the imperative reads like.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Discard => "discard",
            Self::Acknowledge => "acknowledge",
        }
    }
}

/// Does it to one job.
///
/// # Errors
/// If the database fails; then nothing was changed.
pub async fn act(pool: &PgPool, action: Action, id: i64) -> Result<Acted, sqlx::Error> {
    let done = match action {
        Action::Retry => retry(pool, id).await?,
        Action::Cancel => end(pool, id, &CANCELLED).await?,
        Action::Discard => end(pool, id, &DISCARDED).await?,
        Action::Acknowledge => (acknowledge(pool, &[id]).await? > 0).then_some(Acted::Acknowledged),
    };
    match done {
        Some(acted) => Ok(acted),
        None => refusal(pool, id).await,
    }
}

async fn retry(pool: &PgPool, id: i64) -> Result<Option<Acted>, sqlx::Error> {
    let waiting = sqlx::query!(
        "UPDATE polar_jobs.live_jobs SET run_at = least(run_at, now()), note = NULL
          WHERE id = $1 AND worker IS NULL RETURNING queue, blocked",
        id,
    )
    .fetch_optional(pool)
    .await?;
    match waiting {
        Some(row) => {
            wake(pool, &row.queue).await?;
            Ok(Some(Acted::RunsNow {
                blocked: row.blocked,
            }))
        }
        None => revive::revive(pool, id).await,
    }
}

async fn end(pool: &PgPool, id: i64, ending: &Ending) -> Result<Option<Acted>, sqlx::Error> {
    let ended = end_all(pool, &[id], ending, None).await?;
    Ok(ended.first().map(|&running| Acted::Ended { running }))
}

/// Takes note of those of the jobs that are discarded; how many there were. Again does nothing new.
pub(super) async fn acknowledge(pool: &PgPool, ids: &[i64]) -> Result<u64, sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.finished_jobs SET acknowledged_at = coalesce(acknowledged_at, now())
          WHERE id = ANY ($1) AND state = 'discarded'",
        ids,
    )
    .execute(pool)
    .await
    .map(|done| done.rows_affected())
}

/// How a person ends a job.
pub(super) struct Ending {
    state: &'static str,
    outcome: &'static str,
    note: &'static str,
}

pub(super) const CANCELLED: Ending = Ending {
    state: "cancelled",
    outcome: "ignored",
    note: "cancelled by an operator",
};
pub(super) const DISCARDED: Ending = Ending {
    state: "discarded",
    outcome: "failed",
    note: "discarded by an operator",
};

/// Rows move to the history in one statement; a worker that had one finds its fence broken. Returns
/// for each row that moved whether a worker had it. With `running`, only such rows move.
pub(super) async fn end_all(
    pool: &PgPool,
    ids: &[i64],
    ending: &Ending,
    running: Option<bool>,
) -> Result<Vec<bool>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.end_jobs($1, $2, $3, $4, $5) AS "running!""#,
        ids,
        ending.state,
        ending.outcome,
        ending.note,
        running,
    )
    .fetch_all(pool)
    .await
}

async fn refusal(pool: &PgPool, id: i64) -> Result<Acted, sqlx::Error> {
    let state = sqlx::query_scalar!(
        r#"SELECT state AS "state!" FROM polar_jobs.jobs WHERE id = $1"#,
        id
    )
    .fetch_optional(pool)
    .await?;
    Ok(state.map_or(Acted::Unknown, |state| Acted::Refused { state }))
}
