//! Claim five hundred, then delete them and keep a narrow row of each: two statements and two commits
//! a batch, on two connections.

use std::time::Instant;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::task::JoinSet;

use super::enqueue::joined;
use super::{CLAIM, prepare};

const CONNECTIONS: usize = 2;
const BATCH: i64 = 500;
const COMPLETE: &str = "
    WITH done AS (DELETE FROM reference.jobs WHERE id = ANY ($1) RETURNING id, queue, attempt)
    INSERT INTO reference.history (id, queue, attempt) SELECT * FROM done";

/// Jobs per second of a queue of `jobs` that do nothing.
pub(super) async fn run(options: &PgConnectOptions, jobs: u64) -> Result<f64, sqlx::Error> {
    let mut connection = prepare(options).await?;
    sqlx::query(
        "INSERT INTO reference.jobs (payload)
         SELECT json_build_object('n', n, 'pad', repeat('x', 180))::text FROM generate_series(1, $1) n",
    )
    .bind(i64::try_from(jobs).unwrap_or(i64::MAX))
    .execute(&mut connection)
    .await?;
    for statement in ["VACUUM ANALYZE reference.jobs", "CHECKPOINT"] {
        sqlx::raw_sql(statement).execute(&mut connection).await?;
    }
    let mut workers = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(options.connect().await?);
    }
    let begun = Instant::now();
    for connection in connections {
        workers.spawn(work(connection));
    }
    joined(workers).await?;
    Ok(jobs as f64 / begun.elapsed().as_secs_f64())
}

async fn work(mut connection: PgConnection) -> Result<(), sqlx::Error> {
    loop {
        let claimed: Vec<(i64, String)> = sqlx::query_as(CLAIM)
            .bind(BATCH)
            .fetch_all(&mut connection)
            .await?;
        if claimed.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = claimed.into_iter().map(|(id, _)| id).collect();
        sqlx::query(COMPLETE)
            .bind(ids)
            .execute(&mut connection)
            .await?;
    }
}
