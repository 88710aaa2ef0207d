//! What a person may do to one job: run it now or again, cancel, discard or acknowledge it.

use jobs::contract::begin;
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::acted::Acted;
use super::repeat::repeated;
use super::{State, revive};
use crate::operators::{self, Actor, OperatorAction};
use crate::queue::idle;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run a waiting job now, or a finished one again.
    Retry,
    /// Cancel an unfinished job.
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

    /// The words of the command.
    #[must_use]
    pub(super) const fn command(self) -> &'static str {
        match self {
            Self::Retry => "jobs retry",
            Self::Cancel => "jobs cancel",
            Self::Discard => "jobs discard",
            Self::Acknowledge => "jobs acknowledge",
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

/// Does it to one job, and records who did.
///
/// # Errors
/// If the database fails; then nothing was changed.
pub async fn act(
    pool: &PgPool,
    actor: &Actor,
    action: Action,
    id: i64,
) -> Result<Acted, sqlx::Error> {
    repeated(async || act_once(pool, actor, action, id).await).await
}

async fn act_once(
    pool: &PgPool,
    actor: &Actor,
    action: Action,
    id: i64,
) -> Result<Acted, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    let done = match action {
        Action::Retry => retry(&mut transaction, id).await?,
        Action::Cancel => end(&mut transaction, id, &CANCELLED).await?,
        Action::Discard => end(&mut transaction, id, &DISCARDED).await?,
        Action::Acknowledge => {
            let ids = acknowledge(&mut transaction, &[id]).await?;
            (!ids.is_empty()).then_some(Acted::Acknowledged)
        }
    };
    let Some(acted) = done else {
        return refusal(&mut transaction, id).await;
    };
    if acted.happened() {
        let row = row_of(&mut transaction, id).await?;
        let recorded = OperatorAction::new(action.command(), format!("job/{id}"))
            .about(row.organization)
            .with(json!({ "kind": row.kind }));
        operators::record(&mut transaction, actor, &recorded).await?;
    }
    transaction.commit().await?;
    Ok(acted)
}

/// What the record says of a job besides its id.
struct ActedOn {
    kind: Option<String>,
    organization: Option<Uuid>,
}

async fn row_of(connection: &mut PgConnection, id: i64) -> Result<ActedOn, sqlx::Error> {
    sqlx::query_as!(
        ActedOn,
        "SELECT kind, polar_jobs.organization_of_job(payload, ordering_key) AS organization
           FROM polar_jobs.jobs WHERE id = $1",
        id
    )
    .fetch_one(connection)
    .await
}

async fn retry(connection: &mut PgConnection, id: i64) -> Result<Option<Acted>, sqlx::Error> {
    let waiting = sqlx::query!(
        "UPDATE polar_jobs.live_jobs SET run_at = least(run_at, now()), note = NULL
          WHERE id = $1 AND worker IS NULL RETURNING queue, blocked",
        id,
    )
    .fetch_optional(&mut *connection)
    .await?;
    match waiting {
        Some(row) => {
            idle::wake_at_commit(connection, &row.queue).await?;
            Ok(Some(Acted::RunsNow {
                blocked: row.blocked,
            }))
        }
        None => revive::revive(connection, id).await,
    }
}

async fn end(
    connection: &mut PgConnection,
    id: i64,
    ending: &Ending,
) -> Result<Option<Acted>, sqlx::Error> {
    let ended = end_all(connection, &[id], ending, None).await?;
    Ok(ended.first().map(|&running| Acted::Ended { running }))
}

/// Takes note of those of the jobs that are discarded and were not taken note of; their ids.
pub(super) async fn acknowledge(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "UPDATE polar_jobs.finished_jobs SET acknowledged_at = now()
          WHERE id = ANY ($1) AND state = 'discarded' AND acknowledged_at IS NULL RETURNING id",
        ids,
    )
    .fetch_all(connection)
    .await
}

/// How a person ends a job.
pub(super) struct Ending {
    state: State,
    outcome: &'static str,
    note: &'static str,
}

pub(super) const CANCELLED: Ending = Ending {
    state: State::Cancelled,
    outcome: "ignored",
    note: "cancelled by an operator",
};
pub(super) const DISCARDED: Ending = Ending {
    state: State::Discarded,
    outcome: "failed",
    note: "discarded by an operator",
};

/// Rows move to the history in one statement; a worker that had one finds its fence broken. Returns
/// for each row that moved whether a worker had it. With `running`, only such rows move.
pub(super) async fn end_all(
    connection: &mut PgConnection,
    ids: &[i64],
    ending: &Ending,
    running: Option<bool>,
) -> Result<Vec<bool>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.end_jobs($1, $2, $3, $4, $5) AS "running!""#,
        ids,
        ending.state.name(),
        ending.outcome,
        ending.note,
        running,
    )
    .fetch_all(connection)
    .await
}

async fn refusal(connection: &mut PgConnection, id: i64) -> Result<Acted, sqlx::Error> {
    let state = sqlx::query_scalar!(
        r#"SELECT state AS "state!: State" FROM polar_jobs.jobs WHERE id = $1"#,
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(state.map_or(Acted::Unknown, |state| Acted::Refused { state }))
}
