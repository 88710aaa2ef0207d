//! The same for every job that a filter means, in small transactions, so that a large clean-up
//! never holds the table.

use std::collections::BTreeSet;

use jobs::contract::begin;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use super::act::{CANCELLED, DISCARDED, acknowledge, end_all};
use super::repeat::repeated;
use super::revive::retry_finished;
use super::{Action, Filter, State};
use crate::operators::{self, Actor, OperatorAction};
use crate::queue::idle;

/// Ids looked up at a time.
const BATCH: i64 = 1000;

/// The statement over the jobs that are meant: `$select` says what of them, `$rest` which of them and in which order.
macro_rules! of_those_meant {
    ($select:literal, $rest:literal, $action:ident, $filter:ident $(, $value:expr)*) => {
        sqlx::query_scalar!(
            $select
                + " FROM polar_jobs.jobs
                   WHERE state = $1 AND ($1 IN ('available', 'running') OR finished_at IS NOT NULL)
                     AND ($2::text IS NULL OR kind = $2)
                     AND ($3::text IS NULL OR queue = $3)
                     AND ($4::text IS NULL OR payload->>'organization_id' = $4
                          OR strpos(ordering_key, $4) > 0 OR strpos(unique_key, $4) > 0)
                     AND NOT ($5 AND EXISTS (SELECT FROM polar_jobs.finished_jobs f
                                              WHERE f.id = jobs.id AND f.acknowledged_at IS NOT NULL)) "
                + $rest,
            state_for($action, $filter).name(),
            $filter.kind.as_deref(),
            $filter.queue.as_deref(),
            $filter.organization(),
            $action == Action::Acknowledge
            $(, $value)*
        )
    };
}

/// How many jobs an action would touch: what is acknowledged is not acknowledged again.
///
/// # Errors
/// If the database fails.
pub async fn count(pool: &PgPool, action: Action, filter: &Filter) -> Result<i64, sqlx::Error> {
    let counted = of_those_meant!(r#"SELECT count(*) AS "count!""#, "", action, filter)
        .fetch_one(pool)
        .await?;
    Ok(filter.limit.map_or(counted, |limit| counted.min(limit)))
}

/// Does it to all of them, oldest first, and says to how many. Each transaction records who did.
///
/// # Errors
/// If the database fails; what was done until then stays done.
pub async fn act_on_all(
    pool: &PgPool,
    actor: &Actor,
    action: Action,
    filter: &Filter,
) -> Result<i64, sqlx::Error> {
    let mut done = 0;
    let mut after = 0;
    let mut left = filter.limit.unwrap_or(i64::MAX);
    loop {
        let ids = ids_after(pool, action, filter, after, left.min(BATCH)).await?;
        let Some(last) = ids.last() else {
            return Ok(done);
        };
        (after, left) = (*last, left - ids.len() as i64);
        done += repeated(async || act_on_these(pool, actor, action, filter, &ids).await).await?;
    }
}

/// One transaction: to some of them, with the record of who did.
async fn act_on_these(
    pool: &PgPool,
    actor: &Actor,
    action: Action,
    filter: &Filter,
    ids: &[i64],
) -> Result<i64, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    let touched = act_on_batch(&mut transaction, action, state_for(action, filter), ids).await?;
    if touched > 0 {
        let recorded = OperatorAction::new(action.command(), "jobs")
            .about(filter.organization)
            .with(description(action, filter, ids, touched));
        operators::record(&mut transaction, actor, &recorded).await?;
    }
    transaction.commit().await?;
    Ok(touched)
}

/// What was meant, between which ids it was found, and how many it was.
fn description(action: Action, filter: &Filter, ids: &[i64], touched: i64) -> Value {
    json!({
        "state": state_for(action, filter).name(),
        "kind": filter.kind,
        "queue": filter.queue,
        "organization": filter.organization,
        "first": ids.first(),
        "last": ids.last(),
        "jobs": touched,
    })
}

/// The state is checked again in each statement: what a worker has taken or ended in between is
/// not what was meant.
async fn act_on_batch(
    connection: &mut PgConnection,
    action: Action,
    state: State,
    ids: &[i64],
) -> Result<i64, sqlx::Error> {
    let running = Some(state == State::Running);
    let done = match (action, state) {
        (Action::Cancel, State::Available | State::Running) => {
            end_all(connection, ids, &CANCELLED, running).await?.len()
        }
        (Action::Discard, State::Available | State::Running) => {
            end_all(connection, ids, &DISCARDED, running).await?.len()
        }
        (Action::Retry, State::Available) => run_now(connection, ids).await?,
        (Action::Retry, State::Completed | State::Discarded | State::Cancelled) => {
            retry_finished(connection, ids, Some(state)).await?.len()
        }
        (Action::Acknowledge, State::Discarded) => acknowledge(connection, ids).await?.len(),
        (Action::Retry, State::Running)
        | (Action::Cancel | Action::Discard | Action::Acknowledge, _) => 0,
    };
    Ok(i64::try_from(done).expect("a batch fits"))
}

async fn run_now(connection: &mut PgConnection, ids: &[i64]) -> Result<usize, sqlx::Error> {
    let queues = sqlx::query_scalar!(
        "UPDATE polar_jobs.live_jobs SET run_at = least(run_at, now()), note = NULL
          WHERE id = ANY ($1) AND worker IS NULL RETURNING queue",
        ids,
    )
    .fetch_all(&mut *connection)
    .await?;
    for queue in queues.iter().collect::<BTreeSet<_>>() {
        idle::wake_at_commit(connection, queue).await?;
    }
    Ok(queues.len())
}

async fn ids_after(
    pool: &PgPool,
    action: Action,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    of_those_meant!(
        r#"SELECT id AS "id!""#,
        "AND id > $6 ORDER BY id LIMIT $7",
        action,
        filter,
        after,
        limit
    )
    .fetch_all(pool)
    .await
}

/// Without a state, an action means the jobs that people usually mean by it.
fn state_for(action: Action, filter: &Filter) -> State {
    filter.state.unwrap_or(match action {
        Action::Retry | Action::Acknowledge => State::Discarded,
        Action::Cancel | Action::Discard => State::Available,
    })
}
