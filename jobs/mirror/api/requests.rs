//! Answers to repeated requests: the first answer again, for a day.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use crate::types::OrganizationId;

/// What a repeated request is known by.
#[derive(Clone, Debug)]
pub struct RequestKey {
    /// The organization that it is about.
    pub organization: OrganizationId,
    /// A user's id, or `application`.
    pub caller: String,
    /// Method and path below the organization.
    pub route: String,
    /// The caller's own key.
    pub key: String,
    /// SHA-256 of the body.
    pub fingerprint: Vec<u8>,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is to be done.
    Go {
        /// An earlier one with this key began and left no answer: what it asked for may be done already.
        resumed: bool,
    },
    /// It was answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The body, JSON; empty where there was none.
        answer: String,
    },
    /// Somebody works on it.
    InProgress,
    /// The key was used with another body.
    OtherBody,
}

/// Begins a request, or tells what became of it. While it is under way others hear so for `term`.
///
/// # Errors
/// If the database fails.
pub async fn begin(
    pool: &PgPool,
    request: &RequestKey,
    holder: Uuid,
    term: Duration,
) -> Result<Begun, sqlx::Error> {
    loop {
        if let Some(attempt) = take(pool, request, holder, term).await? {
            return Ok(Begun::Go {
                resumed: attempt > 1,
            });
        }
        let row = sqlx::query!(
            "SELECT fingerprint, status, answer FROM polar_jobs.idempotent_requests
              WHERE organization_id = $1 AND caller = $2 AND route = $3 AND key = $4",
            request.organization.0,
            request.caller,
            request.route,
            request.key,
        )
        .fetch_optional(pool)
        .await?;
        // Pruned between the two: it is free now.
        let Some(row) = row else { continue };
        if row.fingerprint != request.fingerprint {
            return Ok(Begun::OtherBody);
        }
        return Ok(
            match row.status.and_then(|status| u16::try_from(status).ok()) {
                Some(status) => Begun::Answered {
                    status,
                    answer: row.answer.unwrap_or_default(),
                },
                None => Begun::InProgress,
            },
        );
    }
}

/// Which attempt this is, where nobody else works on it and no answer is there.
async fn take(
    pool: &PgPool,
    request: &RequestKey,
    holder: Uuid,
    term: Duration,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar!(
        "INSERT INTO polar_jobs.idempotent_requests AS r
                (organization_id, caller, route, key, fingerprint, holder, busy_until)
         VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7))
         ON CONFLICT (organization_id, caller, route, key) DO UPDATE
            SET fingerprint = excluded.fingerprint, holder = excluded.holder, busy_until = excluded.busy_until,
                status = NULL, answer = NULL,
                attempt = CASE WHEN r.started_at < clock_timestamp() - interval '24 hours' THEN 1 ELSE r.attempt + 1 END,
                started_at = CASE WHEN r.started_at < clock_timestamp() - interval '24 hours'
                                  THEN excluded.started_at ELSE r.started_at END
          WHERE r.started_at < clock_timestamp() - interval '24 hours'
             OR (r.status IS NULL AND r.busy_until <= clock_timestamp() AND r.fingerprint = excluded.fingerprint)
         RETURNING attempt",
        request.organization.0,
        request.caller,
        request.route,
        request.key,
        request.fingerprint,
        holder,
        term.as_secs_f64(),
    )
    .fetch_optional(pool)
    .await
}

/// Keeps the answer, unless somebody else has taken the request over.
///
/// # Errors
/// If the database fails; then a repetition goes on where this one stopped.
pub async fn finish(
    pool: &PgPool,
    request: &RequestKey,
    holder: Uuid,
    status: u16,
    answer: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.idempotent_requests SET status = $6, answer = $7
          WHERE organization_id = $1 AND caller = $2 AND route = $3 AND key = $4 AND holder = $5",
        request.organization.0,
        request.caller,
        request.route,
        request.key,
        holder,
        i16::try_from(status).unwrap_or(i16::MAX),
        answer,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Keeps no answer: the next request with this key goes on at once.
///
/// # Errors
/// If the database fails; then it goes on when the term is over.
pub async fn release(pool: &PgPool, request: &RequestKey, holder: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.idempotent_requests SET busy_until = clock_timestamp()
          WHERE organization_id = $1 AND caller = $2 AND route = $3 AND key = $4 AND holder = $5",
        request.organization.0,
        request.caller,
        request.route,
        request.key,
        holder,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes what is a day old, at most `batch` rows. Returns how many.
///
/// # Errors
/// If the database fails.
pub async fn prune(pool: &PgPool, batch: i64) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query!(
        "DELETE FROM polar_jobs.idempotent_requests
          WHERE ctid = ANY (ARRAY(SELECT ctid FROM polar_jobs.idempotent_requests
                                   WHERE started_at < clock_timestamp() - interval '24 hours' LIMIT $1))",
        batch,
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}
