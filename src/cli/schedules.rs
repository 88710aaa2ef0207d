//! `polar-jobs schedules …`

use anyhow::Context;
use clap::Subcommand;
use jobs::contract::begin;
use jobs::mirror::clock;
use jobs::types::Timestamp;
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;

use super::output::{self, Format};
use super::{AppContext, Exit, Failure, connect};
use crate::operators::{self, Actor, OperatorAction};
use crate::schedule::{RunNowError, Timetable, run_now};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the schedules: what runs when, in UTC
    List {
        /// Columns for people, or one JSON array
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = output::limit())]
        limit: i64,
    },
    /// Write one job of a schedule now
    Run {
        /// The schedule, named like its kind of job
        name: String,
    },
}

/// A row of `polar_jobs.schedules`.
#[derive(Serialize)]
struct Row {
    name: String,
    cron: String,
    next_tick: Timestamp,
    last_tick: Option<Timestamp>,
    paused_at: Option<Timestamp>,
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 2).await?;
    match command {
        Command::List { format, limit } => {
            output::list(format, HEADER, &rows(&pool, limit).await?, cells)?;
            Ok(Exit::Done)
        }
        Command::Run { name } => start(&pool, &app.actor, &name).await,
    }
}

async fn start(pool: &PgPool, actor: &Actor, name: &str) -> Result<Exit, Failure> {
    let timetable = Timetable::of(&jobs::registry()).context("a schedule cannot be used")?;
    // What a job does since it began is compared with stored times, and this host's clock may be wrong.
    let now = clock::now(pool).await?;
    let mut transaction = begin(pool).await?;
    let job = match run_now(&mut transaction, &timetable, name, now).await {
        Ok(job) => job,
        Err(unknown @ RunNowError::Unknown { .. }) => {
            return Err(Failure::usage(unknown.to_string()));
        }
        Err(RunNowError::Database(error)) => return Err(error.into()),
    };
    let action = OperatorAction::new("schedules run", format!("schedule/{name}"))
        .with(json!({ "job": job }));
    operators::record(&mut transaction, actor, &action).await?;
    transaction.commit().await?;
    output::line(&match job {
        Some(id) => format!("job {id} of {name} waits to run"),
        None => format!("a job of {name} waits already"),
    })?;
    Ok(Exit::Done)
}

async fn rows(pool: &PgPool, limit: i64) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT name, cron, next_tick AS "next_tick: Timestamp", last_tick AS "last_tick: Timestamp",
                  paused_at AS "paused_at: Timestamp"
             FROM polar_jobs.schedules ORDER BY name LIMIT $1"#,
        limit,
    )
    .fetch_all(pool)
    .await
}

const HEADER: [&str; 5] = ["name", "cron (UTC)", "next tick", "last tick", "paused at"];

fn cells(row: &Row) -> [String; 5] {
    [
        row.name.clone(),
        row.cron.clone(),
        output::brief(row.next_tick),
        output::maybe_brief(row.last_tick),
        output::maybe_brief(row.paused_at),
    ]
}
