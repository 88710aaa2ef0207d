//! The statement that stores events and their jobs. The rest of the work is in the SQL function
//! `accept_events`: one round trip, one snapshot rule for everybody.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::ingress::row::{EventColumns, JobColumns, Row};

/// Who sent an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingress) enum Source {
    /// A delivery.
    Polar,
    /// The application's change.
    Application,
}

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::Polar => "polar",
            Self::Application => "app",
        }
    }
}

/// Ids for events that are about to be stored; those not used are lost, which harms nobody.
///
/// Never drawn ahead: an event that was acknowledged before another arrived has the smaller id,
/// which the mirror relies on.
pub(in crate::ingress) async fn reserve(
    connection: &mut PgConnection,
    many: usize,
) -> Result<Vec<i64>, sqlx::Error> {
    let many = i32::try_from(many).unwrap_or(i32::MAX);
    sqlx::query_scalar!(
        r#"SELECT nextval('polar_jobs.stored_events_id_seq') AS "id!" FROM generate_series(1, $1)"#,
        many
    )
    .fetch_all(connection)
    .await
}

/// Stores events with their jobs, all of them or, on an error, none. Returns those of the ids whose jobs
/// were written; the others were there before.
pub(in crate::ingress) async fn store(
    connection: &mut PgConnection,
    source: Source,
    rows: &[Row<'_>],
) -> Result<HashSet<i64>, sqlx::Error> {
    let (events, jobs) = (EventColumns::of(rows), JobColumns::of(rows));
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.accept_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
               AS "accepted!""#,
        source.name(),
        &events.ids,
        &events.external_ids as &[Option<&str>],
        &events.types as &[Option<&str>],
        &events.occurred_ats as &[Option<DateTime<Utc>>],
        &events.changes as &[Option<&Value>],
        &events.bodies as &[Option<&[u8]>],
        &events.outcomes as &[Option<&str>],
        &jobs.causes,
        &jobs.kinds as &[&str],
        &jobs.payloads as &[&Value],
        &jobs.queues as &[&str],
        &jobs.run_ats as &[Option<DateTime<Utc>>],
        &jobs.priorities,
        &jobs.unique_keys as &[Option<&str>],
        &jobs.ordering_keys as &[Option<&str>],
        &jobs.max_attempts,
    )
    .fetch_one(connection)
    .await
    .map(|accepted| accepted.into_iter().collect())
}
