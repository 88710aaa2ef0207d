//! Lets the next job of an ordering key run where the one who should have done it could not: its row was
//! held by somebody, or another transaction was still open. Such keys are noted in `key_releases`.

use sqlx::PgConnection;

/// Notes handled in one transaction: it holds the heads of their keys until it commits.
const BATCH: i32 = 200;

/// Handles every note that can be handled now, oldest first; returns how many. One whose key is held is
/// left for the next time and holds up no other.
///
/// # Errors
/// If the database fails; what was handled until then stays so.
pub async fn release_noted_keys(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let (mut after, mut released) = (0, 0);
    loop {
        let round = sqlx::query!(
            r#"SELECT last, released AS "released!" FROM polar_jobs.release_noted_keys($1, $2)"#,
            after,
            BATCH,
        )
        .fetch_one(&mut *connection)
        .await?;
        released += round.released;
        match round.last {
            Some(last) => after = last,
            None => return Ok(released),
        }
    }
}

/// Finds ordering keys with blocked jobs but none that may run, and notes them for the releaser. Nothing of
/// ours leaves such a key behind: a number above zero asks for attention. Reads one index entry per key
/// that has blocked jobs.
///
/// # Errors
/// If the database fails.
pub async fn note_headless_keys(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT polar_jobs.note_headless_keys() AS "noted!""#)
        .fetch_one(connection)
        .await
}
