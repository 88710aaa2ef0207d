//! The statements that store events and their jobs. The rest of the work is in the SQL function
//! `accept_events`: one snapshot rule for everybody.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::ingress::row::{CausedJobs, EventColumns, Row};
use crate::queue::payload::Payload;

/// Ids for as many changes that are about to be stored, once their subjects, which are their jobs' ordering keys, are
/// locked until the transaction ends. Ids that are not used are lost, which harms nobody.
///
/// Never drawn ahead: a change that was committed before another of its subject has the smaller id, which the mirror
/// relies on.
pub(in crate::ingress) async fn reserve(
    transaction: &mut PgConnection,
    subjects: &[String],
    many: usize,
) -> Result<Vec<i64>, sqlx::Error> {
    let many = i32::try_from(many).unwrap_or(i32::MAX);
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.reserve_changes($1, $2) AS "ids!""#,
        subjects,
        many,
    )
    .fetch_one(transaction)
    .await
}

/// Stores deliveries with their jobs, all of them or, on an error, none, and draws their ids: one round
/// trip. Returns for each in turn whether its jobs were written; if not, it was there before. The rows'
/// own ids are ignored.
pub(super) async fn store_deliveries(
    connection: &mut PgConnection,
    rows: &[Row<'_>],
) -> Result<Vec<bool>, sqlx::Error> {
    let (events, jobs) = (EventColumns::of(rows), CausedJobs::of(rows));
    let many = i32::try_from(rows.len()).unwrap_or(i32::MAX);
    let stored = sqlx::query!(
        r#"WITH drawn AS MATERIALIZED (
               SELECT ARRAY(SELECT nextval('polar_jobs.stored_events_id_seq') FROM generate_series(1, $1)) AS ids
           )
           SELECT drawn.ids AS "ids!",
                  polar_jobs.accept_events('polar', drawn.ids, $2, $3, $4, $5,
                      polar_jobs.without_erased($6, $17, $18), $7,
                      ARRAY(SELECT drawn.ids[place] FROM unnest($8::int[]) place), $9, $10, $11, $12, $13, $14, $15, $16)
                  AS "accepted!"
             FROM drawn"#,
        many,
        &events.external_ids as &[Option<&str>],
        &events.types as &[Option<&str>],
        &events.occurred_ats as &[Option<DateTime<Utc>>],
        &events.changes as &[Option<&Value>],
        &events.bodies as &[Option<&[u8]>],
        &events.outcomes as &[Option<&str>],
        &jobs.positions,
        &jobs.columns.kinds as &[&str],
        &jobs.columns.payloads as &[Payload<'_>],
        &jobs.columns.queues as &[&str],
        &jobs.columns.run_ats as &[Option<DateTime<Utc>>],
        &jobs.columns.priorities,
        &jobs.columns.unique_keys as &[Option<&str>],
        &jobs.columns.ordering_keys as &[Option<&str>],
        &jobs.columns.max_attempts,
        &events.organizations as &[Option<Uuid>],
        &events.customers as &[Option<Uuid>],
    )
    .fetch_one(connection)
    .await?;
    let accepted: HashSet<i64> = stored.accepted.into_iter().collect();
    Ok(stored.ids.iter().map(|id| accepted.contains(id)).collect())
}

/// Stores the application's changes with their jobs, all of them or, on an error, none, under ids of [`reserve`].
/// Returns how many were new.
pub(in crate::ingress) async fn store_changes(
    connection: &mut PgConnection,
    rows: &[Row<'_>],
) -> Result<usize, sqlx::Error> {
    let (events, jobs) = (EventColumns::of(rows), CausedJobs::of(rows));
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.accept_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
               AS "accepted!""#,
        "app",
        &events.ids,
        &events.external_ids as &[Option<&str>],
        &events.types as &[Option<&str>],
        &events.occurred_ats as &[Option<DateTime<Utc>>],
        &events.changes as &[Option<&Value>],
        &events.bodies as &[Option<&[u8]>],
        &events.outcomes as &[Option<&str>],
        &jobs.causes,
        &jobs.columns.kinds as &[&str],
        &jobs.columns.payloads as &[Payload<'_>],
        &jobs.columns.queues as &[&str],
        &jobs.columns.run_ats as &[Option<DateTime<Utc>>],
        &jobs.columns.priorities,
        &jobs.columns.unique_keys as &[Option<&str>],
        &jobs.columns.ordering_keys as &[Option<&str>],
        &jobs.columns.max_attempts,
    )
    .fetch_one(connection)
    .await
    .map(|accepted| accepted.len())
}
