//! How fast usage is recorded, frozen and reported, and that nothing is lost on the way.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::Utc;
use clap::Args;
use jobs::contract::{JobFacts, Settings};
use jobs::mirror::usage::{close_window, record_all};
use jobs::types::UsageReading;
use jobs::{Context, Job, ReportUsage};
use serde_json::{Value, json};
use simulator::{Options, Simulator};
use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::fixture::Fixture;

/// Rows of one `POST /changes` request, the most that it may hold.
const BATCH: usize = 10_000;
/// Rows that each manner is measured with.
const BATCHED: usize = 200_000;
/// Connections that COPY at the same time.
const COPIES: u64 = 2;

/// What to measure.
#[derive(Args, Clone, Copy, Debug)]
pub struct Arguments {
    /// How many readings
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: u64,
    /// Of how many organizations
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub organizations: u32,
}

/// Records readings, closes one window over all of them, reports it to a
/// local Polar, and holds the sums against each other.
///
/// # Errors
/// If the database fails, or a sum is wrong.
pub async fn run(url: &str, what: Arguments) -> anyhow::Result<Value> {
    let Arguments {
        rows,
        organizations,
    } = what;
    let fixture = Fixture::new(url).await?;
    let ids = create(&fixture.pool, organizations).await?;
    let mut batches = serde_json::Map::new();
    for (name, manner) in MANNERS {
        let seconds = batched(&fixture.pool, &ids, manner).await?;
        batches.insert(
            format!("{name}_rows_per_second"),
            json!(per_second(BATCHED as u64, seconds)),
        );
        sqlx::query!("TRUNCATE polar_jobs.usage, polar_jobs.usage_external_ids")
            .execute(&fixture.pool)
            .await?;
    }

    let copied = copy(&fixture.pool, &ids, rows).await?;
    let begun = Instant::now();
    let mut transaction = fixture.pool.begin().await?;
    let window = close_window(&mut transaction, None)
        .await?
        .context("no window closed")?;
    transaction.commit().await?;
    let frozen = begun.elapsed().as_secs_f64();
    ensure!(
        window.readings.unsigned_abs() == rows,
        "{} of {rows} readings were counted",
        window.readings
    );
    let (memory, reported) = (peak_memory_mib(), report(&fixture.pool, rows).await?);
    let mut result = json!({
        "bench": "metering", "rows": rows, "organizations": organizations,
        "copy_rows_per_second": per_second(rows, copied),
        "freeze_seconds": frozen, "report_seconds": reported.seconds, "report_requests": reported.requests,
        "peak_memory_mib": memory,
    });
    result
        .as_object_mut()
        .context("an object is an object")?
        .append(&mut batches);
    Ok(result)
}

async fn create(pool: &PgPool, organizations: u32) -> anyhow::Result<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "INSERT INTO polar_jobs.organizations (id, name, slug, status, event_id, polar_customer_id)
         SELECT gen_random_uuid(), 'n', 's', 'active', 0, gen_random_uuid() FROM generate_series(1, $1::bigint) RETURNING id",
        i64::from(organizations),
    );
    Ok(ids.fetch_all(pool).await?)
}

/// A way to write many rows in one statement.
#[derive(Clone, Copy)]
struct Manner {
    /// The statement behind `POST /changes`; else a plain insert of many rows, the limit.
    changes: bool,
    /// Each row with an id that makes it idempotent.
    ids: bool,
}

const MANNERS: [(&str, Manner); 4] = [
    (
        "changes",
        Manner {
            changes: true,
            ids: false,
        },
    ),
    (
        "plain_insert",
        Manner {
            changes: false,
            ids: false,
        },
    ),
    (
        "changes_with_ids",
        Manner {
            changes: true,
            ids: true,
        },
    ),
    (
        "plain_insert_with_ids",
        Manner {
            changes: false,
            ids: true,
        },
    ),
];

async fn batched(pool: &PgPool, organizations: &[Uuid], manner: Manner) -> anyhow::Result<f64> {
    let mut connection = pool.acquire().await?;
    let organizations: Vec<Uuid> = organizations.iter().copied().cycle().take(BATCH).collect();
    let quantities = vec![1_i64; BATCH];
    let mut seconds = 0.0;
    for request in 0..BATCHED / BATCH {
        let ids: Vec<Option<String>> = (0..BATCH)
            .map(|place| manner.ids.then(|| format!("reading-{request}-{place:05}")))
            .collect();
        let readings: Vec<UsageReading> = organizations
            .iter()
            .zip(&ids)
            .map(|(&organization_id, id)| UsageReading {
                organization_id,
                quantity: 1,
                recorded_at: None,
                external_id: id.clone(),
            })
            .collect();
        let begun = Instant::now();
        if manner.changes {
            record_all(&mut connection, &readings).await?;
        } else {
            let insert = sqlx::query!(
                "INSERT INTO polar_jobs.usage (organization_id, quantity, external_id)
                 SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[])",
                &organizations,
                &quantities,
                &ids as &[Option<String>],
            );
            insert.execute(&mut *connection).await?;
        }
        seconds += begun.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

async fn copy(pool: &PgPool, ids: &[Uuid], rows: u64) -> anyhow::Result<f64> {
    let ids: Arc<[Uuid]> = ids.into();
    let begun = Instant::now();
    let mut copies = JoinSet::new();
    for number in 0..COPIES {
        let (pool, ids) = (pool.clone(), Arc::clone(&ids));
        let share = rows / COPIES + u64::from(number < rows % COPIES);
        copies.spawn(async move { copy_share(&pool, &ids, share).await });
    }
    while let Some(copied) = copies.join_next().await {
        copied??;
    }
    Ok(begun.elapsed().as_secs_f64())
}

async fn copy_share(pool: &PgPool, ids: &[Uuid], rows: u64) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await?;
    let into = "COPY polar_jobs.usage (organization_id, quantity) FROM STDIN";
    let mut copy = connection.copy_in_raw(into).await?;
    let mut lines = String::new();
    // Neighbours belong to different organizations, as they do in life.
    for (id, row) in ids.iter().cycle().zip(0..rows) {
        writeln!(lines, "{id}\t1")?;
        if row % 2_000 == 1_999 {
            copy.send(std::mem::take(&mut lines).into_bytes()).await?;
        }
    }
    copy.send(lines.into_bytes()).await?;
    copy.finish().await?;
    Ok(())
}

struct Reported {
    seconds: f64,
    requests: usize,
}

/// Reports to a local Polar and counts what arrived there.
async fn report(pool: &PgPool, rows: u64) -> anyhow::Result<Reported> {
    let simulator =
        Simulator::start(Options::default(), SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let polar = polar::Client::new(
        polar::ClientConfig {
            base_url: simulator.url(),
            access_token: simulator.access_token().to_owned().into(),
            version: polar::API_VERSION.to_owned(),
            timeout: Duration::from_secs(5),
            user_agent: "polar-jobs-bench".to_owned(),
        },
        Arc::new(polar::Unlimited),
    )?;
    let context = context(pool, polar);
    let begun = Instant::now();
    while !(ReportUsage {}).run(&context).await?.next.is_empty() {}
    let seconds = begun.elapsed().as_secs_f64();
    let arrived: u64 = simulator
        .events()
        .iter()
        .filter_map(|event| event.metadata.get("count")?.as_u64())
        .sum();
    ensure!(arrived == rows, "{arrived} of {rows} readings arrived");
    Ok(Reported {
        seconds,
        requests: simulator.requests().len(),
    })
}

fn context(pool: &PgPool, polar: polar::Client) -> Context {
    Context {
        polar: Some(polar),
        mail: None,
        pool: pool.clone(),
        settings: Arc::new(Settings::default()),
        job: JobFacts {
            id: 0,
            attempt: 1,
            failures: 0,
            max_attempts: 1,
            events: Vec::new(),
            started_at: Utc::now(),
        },
    }
}

fn per_second(rows: u64, seconds: f64) -> f64 {
    (rows as f64 / seconds).round()
}

/// The most memory this process ever held; `None` where the system does not tell.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}
