//! Runs stored events again: for real, or as a shadow that shows what would change.
//!
//! A replay writes the jobs that the event would start if it came now. Nothing else is needed: a
//! delivery is only a reason to ask Polar, and a change meets rows that remember which change wrote
//! them last. So an old change that is replayed finds newer news in its place and is ignored; it
//! never turns back time.

mod compare;
mod sandbox;
mod shadow;

use chrono::{DateTime, Utc};
use jobs::change::parse_stored;
use jobs::contract::begin;
use jobs::{ApplyChange, NewJob};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::ingress::jobs_of_delivery;
use crate::operators::{self, Actor, OperatorAction};
use crate::queue::enqueue;

pub use compare::Difference;
pub use shadow::{Shadow, ShadowJob, ShadowOutcome, Shadows};

/// Events in one transaction: a million of them must not hold everybody's keys at once.
const BATCH: i64 = 200;

/// The statement over the events that a filter means: `$before` and `$after` are what stands around it.
macro_rules! of_those_meant {
    ($macro:ident!($($row:ident,)? $before:literal), $after:literal, $filter:ident, $customers:expr $(, $value:expr)*) => {
        sqlx::$macro!(
            $($row,)?
            $before
                + " FROM polar_jobs.external_events
                   WHERE (cardinality($1::bigint[]) = 0 OR id = ANY ($1)) AND ($2::text IS NULL OR type = $2)
                     AND ($3::timestamptz IS NULL OR received_at >= $3) AND ($4::timestamptz IS NULL OR received_at < $4)
                     AND (cardinality($5::text[]) = 0
                          OR EXISTS (SELECT 1 FROM unnest($5) name WHERE strpos(lower(data::text), name) > 0)) "
                + $after,
            &$filter.ids,
            $filter.event_type,
            $filter.since,
            $filter.until,
            $customers
            $(, $value)*
        )
    };
}

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these; empty = all.
    pub ids: Vec<i64>,
    /// Only of this type.
    pub event_type: Option<String>,
    /// Only those that name this organization, or a customer of it at Polar.
    pub organization: Option<Uuid>,
    /// Only those that came at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those that came before this time.
    pub until: Option<DateTime<Utc>>,
}

/// A stored event, as far as a replay needs it.
struct Event {
    id: i64,
    source: String,
    event_type: Option<String>,
    change: Option<serde_json::Value>,
    body: Option<Vec<u8>>,
}

/// What became of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Events whose jobs were written; they may have been merged into jobs that wait already.
    pub replayed: Vec<i64>,
    /// Events of which nothing follows, with the reason.
    pub left_alone: Vec<(i64, String)>,
}

impl Filter {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.ids.is_empty()
            && self.event_type.is_none()
            && self.organization.is_none()
            && self.since.is_none()
            && self.until.is_none()
    }

    /// Returns the number of events that it means.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn count(&self, pool: &PgPool) -> Result<i64, sqlx::Error> {
        let customers = self.customers(pool).await?;
        let count = of_those_meant!(
            query_scalar!(r#"SELECT count(*) AS "count!""#),
            "",
            self,
            &customers
        );
        count.fetch_one(pool).await
    }

    /// The next events after `after` and up to `newest`, oldest first.
    async fn page(
        &self,
        pool: &PgPool,
        after: i64,
        newest: i64,
    ) -> Result<Vec<Event>, sqlx::Error> {
        let customers = self.customers(pool).await?;
        let page = of_those_meant!(
            query_as!(
                Event,
                "SELECT s.id, s.source, s.type AS event_type, s.change, s.body FROM polar_jobs.stored_events s
                  WHERE s.id IN (SELECT id"
            ),
            "AND id > $6 AND id <= $7 ORDER BY id LIMIT $8) ORDER BY s.id",
            self,
            &customers,
            after,
            newest,
            BATCH
        );
        page.fetch_all(pool).await
    }

    /// What events may call the organization; empty where none is asked for.
    async fn customers(&self, pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
        let Some(organization) = self.organization else {
            return Ok(Vec::new());
        };
        sqlx::query_scalar!(
            r#"SELECT $1::uuid::text AS "name!"
                UNION SELECT polar_customer_id::text FROM polar_jobs.polar_customers WHERE organization_id = $1"#,
            organization,
        )
        .fetch_all(pool)
        .await
    }
}

impl Event {
    /// The jobs that it starts, or the reason why it starts none.
    fn jobs(&self) -> Result<Vec<NewJob>, String> {
        let jobs = match (&*self.source, &self.change, &self.body) {
            ("polar", _, Some(body)) => jobs_of_delivery(body),
            ("app", Some(data), _) => {
                let change = parse_stored(self.event_type.as_deref().unwrap_or_default(), data)
                    .map_err(|_| "the stored change cannot be read".to_owned())?;
                ApplyChange::for_event(self.id, &change)
                    .into_iter()
                    .collect()
            }
            _ => return Err("its content was erased".to_owned()),
        };
        if jobs.is_empty() {
            let named = self.event_type.as_deref().unwrap_or("of no type");
            return Err(format!("an event {named} starts nothing"));
        }
        Ok(jobs.into_iter().map(|job| job.caused_by(self.id)).collect())
    }
}

/// Replays what the filter means, oldest first. Each batch is a transaction with its line in
/// `operator_actions`; a replay that stops half-way may be repeated.
///
/// # Errors
/// If the database fails; the batches before stay replayed.
pub async fn replay(
    pool: &PgPool,
    actor: &Actor,
    filter: &Filter,
) -> Result<Replayed, sqlx::Error> {
    let mut all = Replayed::default();
    let (mut after, newest) = (i64::MIN, newest_event(pool).await?);
    loop {
        let events = filter.page(pool, after, newest).await?;
        let Some(last) = events.last().map(|event| event.id) else {
            return Ok(all);
        };
        let mut transaction = begin(pool).await?;
        let batch = replay_batch(&mut transaction, &events).await?;
        if let (Some(first), Some(newest)) = (batch.replayed.first(), batch.replayed.last()) {
            let target = match batch.replayed.len() {
                1 => format!("event/{first}"),
                _ => format!("events/{first}-{newest}"),
            };
            let action = OperatorAction::new("events replay", target)
                .about(filter.organization)
                .with(
                    serde_json::json!({"events": batch.replayed.len(), "type": filter.event_type}),
                );
            operators::record(&mut transaction, actor, &action).await?;
        }
        transaction.commit().await?;
        all.replayed.extend(batch.replayed);
        all.left_alone.extend(batch.left_alone);
        after = last;
    }
}

/// The newest event there is: what comes while a replay is under way is no part of it, or it might never end.
async fn newest_event(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(max(id), 0) AS "newest!" FROM polar_jobs.external_events"#
    )
    .fetch_one(pool)
    .await
}

async fn replay_batch(
    connection: &mut PgConnection,
    events: &[Event],
) -> Result<Replayed, sqlx::Error> {
    let mut batch = Replayed::default();
    let mut written = Vec::new();
    for event in events {
        match event.jobs() {
            Ok(jobs) => {
                reopen(connection, event.id).await?;
                written.extend(jobs);
                batch.replayed.push(event.id);
            }
            Err(reason) => batch.left_alone.push((event.id, reason)),
        }
    }
    enqueue::insert_all(connection, &written).await?;
    Ok(batch)
}

async fn reopen(connection: &mut PgConnection, event: i64) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT polar_jobs.reopen_event($1)", event)
        .execute(connection)
        .await
        .map(drop)
}
