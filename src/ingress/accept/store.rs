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

/// What to do about an ordering key that another transaction holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingress) enum Patience {
    /// Wait until it is free, or the lock timeout strikes.
    Wait,
    /// Leave the event out and say so.
    LeaveOut,
}

/// Which events went in. What is in neither set was there before.
#[derive(Debug, Default)]
pub(in crate::ingress) struct Stored {
    /// Stored now, with their jobs.
    pub(in crate::ingress) fresh: HashSet<i64>,
    /// Left out; only with [`Patience::LeaveOut`].
    pub(in crate::ingress) contended: HashSet<i64>,
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

/// Stores events with their jobs, all of them or, on an error, none.
pub(in crate::ingress) async fn store(
    connection: &mut PgConnection,
    source: Source,
    rows: &[Row<'_>],
    patience: Patience,
) -> Result<Stored, sqlx::Error> {
    let (events, jobs) = (EventColumns::of(rows), JobColumns::of(rows));
    let answer = sqlx::query!(
        r#"SELECT fresh AS "fresh!", contended AS "contended!"
             FROM polar_jobs.accept_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                                           $16, $17, $18, $19)"#,
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
        &jobs.debounce_untils as &[Option<DateTime<Utc>>],
        patience == Patience::Wait,
    )
    .fetch_one(connection)
    .await?;
    Ok(Stored {
        fresh: answer.fresh.into_iter().collect(),
        contended: answer.contended.into_iter().collect(),
    })
}
