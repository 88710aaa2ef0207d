//! The fixture of a benchmark: a scratch database and a worker on it.

use std::sync::Arc;
use std::time::Duration;

use jobs::contract::{Registry, Settings};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::queue::connect::{ConnectionBudget, Pooler, QueueDatabase};
use crate::worker::{QueueSlots, WorkerSettings};

/// A scratch database.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Where it is.
    pub url: String,
    /// Connections to it.
    pub pool: PgPool,
    /// The queue's connections to it.
    pub database: QueueDatabase,
}

impl Fixture {
    /// Connects to a migrated scratch database.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn new(url: &str) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .test_before_acquire(false)
            .connect(url)
            .await?;
        let database = QueueDatabase::new(url, Pooler::None)?;
        Ok(Self {
            url: url.to_owned(),
            pool,
            database,
        })
    }

    /// Plans and caches as after a quiet hour.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn vacuum_and_checkpoint(&self) -> Result<(), sqlx::Error> {
        for statement in [
            "VACUUM ANALYZE polar_jobs.live_jobs",
            "VACUUM ANALYZE polar_jobs.finished_jobs",
            "CHECKPOINT",
        ] {
            sqlx::raw_sql(statement).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Rows in the history as a year of use leaves them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn fill_history(&self, rows: u64) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "INSERT INTO polar_jobs.finished_jobs
                    (id, run_at, created_at, started_at, attempt, max_attempts, priority, state, queue, kind, payload, errors)
             SELECT -n, now(), now(), now(), 1, 20, 0, 'completed', 'default', 'bench_noop',
                    json_build_object('n', n, 'pad', repeat('x', 180)), '[]'
               FROM generate_series(1, $1::bigint) n",
            i64::try_from(rows).unwrap_or(i64::MAX),
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// A worker with the product's settings, its `registry` and `slots` apart.
    #[must_use]
    pub fn worker(&self, registry: Registry, slots: usize, drain: bool) -> WorkerSettings {
        WorkerSettings {
            database: self.database.clone(),
            connections: ConnectionBudget::of(10),
            pool: self.pool.clone(),
            registry: Arc::new(registry),
            polar: None,
            mail: None,
            settings: Arc::new(Settings::default()),
            queues: vec![QueueSlots {
                queue: "default".to_owned(),
                slots,
            }],
            slots,
            drain,
            drain_timeout: Duration::from_secs(25),
            mask: Arc::new(|text| text),
        }
    }
}
