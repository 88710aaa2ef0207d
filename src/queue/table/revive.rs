//! Puts finished jobs back to waiting, each with its id, its history and a new budget.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::State;
use super::acted::Acted;
use crate::queue::idle;

/// Puts one back; `None`: there is no finished job of this id.
pub(super) async fn revive(
    connection: &mut PgConnection,
    id: i64,
) -> Result<Option<Acted>, sqlx::Error> {
    let waiting = retry_finished(connection, &[id], None).await?;
    match waiting.first() {
        Some(&blocked) => Ok(Some(Acted::WaitsAgain { blocked })),
        None => duplicate_of(connection, id).await,
    }
}

/// Puts back those of the jobs that are in `state`; returns for each whether it is blocked.
pub(super) async fn retry_finished(
    connection: &mut PgConnection,
    ids: &[i64],
    state: Option<State>,
) -> Result<Vec<bool>, sqlx::Error> {
    let back = sqlx::query!(
        r#"SELECT queue AS "queue!", blocked AS "blocked!" FROM polar_jobs.retry_finished($1, $2)"#,
        ids,
        state.map(State::name),
    )
    .fetch_all(&mut *connection)
    .await?;
    for queue in back.iter().map(|row| &row.queue).collect::<BTreeSet<_>>() {
        idle::wake_at_commit(connection, queue).await?;
    }
    Ok(back.into_iter().map(|row| row.blocked).collect())
}

/// The job that waits with the same unique key. `None` where it has gone in this very moment: the caller
/// hears of the state that is there now.
async fn duplicate_of(
    connection: &mut PgConnection,
    id: i64,
) -> Result<Option<Acted>, sqlx::Error> {
    let duplicate = sqlx::query_scalar!(
        r#"SELECT l.id FROM polar_jobs.finished_jobs f
             JOIN polar_jobs.live_jobs l ON l.worker IS NULL
              AND (l.unique_key = f.unique_key OR l.coalesces AND l.ordering_key = f.unique_key)
            WHERE f.id = $1 ORDER BY l.blocked LIMIT 1"#,
        id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(duplicate.map(|duplicate| Acted::DuplicateWaits { duplicate }))
}
