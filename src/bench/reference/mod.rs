//! The limit of this machine, measured in the same run: the bare statements of a job queue, written by
//! hand in a few lines of SQL, without keys, leases, causes or a kept payload. No absolute figure says
//! much about a queue; the ratio to these does.
//!
//! The tables are made beside the product's in the scratch database of the measurement.

mod drain;
mod enqueue;
mod ingress;
mod latency;

use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use self::ingress::Commits;
use super::percentile;
use crate::bench;

/// The smallest table that a queue can do with.
const TABLE: &str = "
    DROP SCHEMA IF EXISTS reference CASCADE;
    CREATE SCHEMA reference;
    CREATE TABLE reference.jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        queue smallint NOT NULL DEFAULT 0, priority smallint NOT NULL DEFAULT 0, state smallint NOT NULL DEFAULT 0,
        attempt smallint NOT NULL DEFAULT 0, run_at timestamptz NOT NULL DEFAULT now(), payload text NOT NULL
    ) WITH (fillfactor = 50);
    CREATE INDEX jobs_ready ON reference.jobs (queue, priority, run_at, id) WHERE state = 0;
    CREATE TABLE reference.history (id bigint, queue smallint, attempt smallint, finished_at timestamptz DEFAULT now());
    CREATE TABLE reference.events (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, received_at timestamptz NOT NULL DEFAULT now(), body bytea NOT NULL
    );
    -- As the product stores it, with lz4 and without.
    ALTER TABLE reference.events ALTER body SET STORAGE MAIN;
    DO $$ BEGIN
        ALTER TABLE reference.events ALTER body SET COMPRESSION lz4;
    EXCEPTION WHEN feature_not_supported THEN
        ALTER TABLE reference.events ALTER body SET STORAGE EXTERNAL, SET (toast_tuple_target = 8160);
    END $$;
    CREATE TABLE reference.event_jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id bigint NOT NULL, queue smallint NOT NULL DEFAULT 0,
        priority smallint NOT NULL DEFAULT 0, state smallint NOT NULL DEFAULT 0, attempt smallint NOT NULL DEFAULT 0,
        run_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX event_jobs_ready ON reference.event_jobs (queue, priority, run_at, id) WHERE state = 0;";

/// Takes the highest priority first, and skips what another claim holds.
const CLAIM: &str = "
    UPDATE reference.jobs SET state = 1, attempt = attempt + 1 WHERE id = ANY (ARRAY(
        SELECT id FROM reference.jobs WHERE queue = 0 AND state = 0 AND run_at <= now()
         ORDER BY priority, run_at, id LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING id, payload";

/// Makes the tables, empty.
async fn prepare(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    sqlx::raw_sql(TABLE).execute(&mut connection).await?;
    Ok(connection)
}

/// The payload of the product's own measurements, as text.
fn payload(n: u64) -> String {
    json!({ "n": n, "pad": "x".repeat(180) }).to_string()
}

/// What the bare statements reach, under the name of the product's own figure.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    what: &'static str,
    field: &'static str,
    value: f64,
}

impl Limit {
    /// The line that is printed: the limit, and the product's figure as a ratio to it.
    #[must_use]
    pub fn line(&self, measured: &Value) -> Value {
        let reached = measured[self.field].as_f64().unwrap_or_default();
        json!({
            "bench": "reference", "of": measured["bench"], "what": self.what,
            self.field: hundredths(self.value), "ratio": hundredths(reached / self.value),
        })
    }
}

/// Bare inserts in the same manner.
///
/// # Errors
/// If the database fails.
pub async fn enqueue(
    options: &PgConnectOptions,
    measured: bench::enqueue::Arguments,
) -> anyhow::Result<Vec<Limit>> {
    let bench::enqueue::Arguments {
        jobs,
        clients,
        bulk,
    } = measured;
    let (what, value) = match bulk {
        false => (
            "one INSERT and one commit each",
            enqueue::single(options, jobs, clients).await?,
        ),
        true => ("COPY", enqueue::bulk(options, jobs, clients).await?),
    };
    Ok(vec![Limit {
        what,
        field: "jobs_per_second",
        value,
    }])
}

/// Claim five hundred, delete them and keep a narrow row of each.
///
/// # Errors
/// If the database fails.
pub async fn drain(
    options: &PgConnectOptions,
    measured: bench::drain::Arguments,
) -> anyhow::Result<Vec<Limit>> {
    Ok(vec![Limit {
        what: "claim 500, delete and keep a narrow row of each",
        field: "jobs_per_second",
        value: drain::run(options, measured.jobs).await?,
    }])
}

/// A NOTIFY after each commit, and a claim.
///
/// # Errors
/// If the database fails.
pub async fn latency(
    options: &PgConnectOptions,
    measured: bench::latency::Arguments,
) -> anyhow::Result<Vec<Limit>> {
    let waits = latency::run(options, measured.rate, measured.seconds).await?;
    let at = |share| percentile(&waits, share);
    let limit = |field, value| Limit {
        what: "NOTIFY after the commit, then a claim",
        field,
        value,
    };
    Ok(vec![limit("p50_ms", at(0.5)), limit("p99_ms", at(0.99))])
}

/// Verify, store the body and one job: in groups, and with one commit each.
///
/// # Errors
/// If the database fails or a delivery is refused.
pub async fn ingress(
    options: &PgConnectOptions,
    measured: bench::ingress::Arguments,
) -> anyhow::Result<Vec<Limit>> {
    let (clients, seconds, bodies) = (measured.clients, measured.seconds, measured.bodies());
    let group = ingress::measure(options, clients, seconds, bodies, Commits::Group).await?;
    let single = ingress::measure(options, clients, seconds, bodies, Commits::Single).await?;
    let limit = |what, field, value| Limit { what, field, value };
    Ok(vec![
        limit(GROUP_COMMIT, "accepted_per_second", group.per_second()),
        limit(GROUP_COMMIT, "p99_ms", group.percentile(0.99)),
        limit(
            "one commit for each delivery",
            "accepted_per_second",
            single.per_second(),
        ),
    ])
}

const GROUP_COMMIT: &str = "deliveries share commits";

/// Rounded to hundredths.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
