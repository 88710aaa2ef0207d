//! The database: reachable, of a version that we know, with our schema, and able to clean up.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Row};

use super::super::{Failure, causes, connect};
use super::{Finding, Level};
use crate::config::Config;
use crate::sqlstate::is_permission_missing;

/// Seconds that a network may explain. Deliveries are signed with a time and taken for 300 s.
const CLOCKS_DIFFER: i64 = 5;
/// Seconds after which deliveries will soon be refused.
const CLOCKS_DISAGREE: i64 = 120;
/// A transaction this old keeps dead rows alive, and every queue in Postgres slows down behind it.
const OLD_TRANSACTION: f64 = 600.0;

/// Returns what was found, and a pool for further checks where the database can be used.
pub(super) async fn check(config: &Config) -> (Vec<Finding>, Option<PgPool>) {
    let Some(database) = &config.database else {
        let fix =
            "set it, such as postgres://host:5432/database, with user and password before the host";
        let unset = Finding::error("database", "DATABASE_URL is not set", fix);
        return (vec![unset], None);
    };
    if let Err(failure) = connect::connection(database).await {
        return (vec![unreachable(failure)], None);
    }
    let mut findings = vec![Finding::ok("database", format!("{database} answers"))];
    let pool = connect::lazy_pool(database, 2);
    let checked = async {
        findings.push(server_version(&pool).await?);
        findings.push(clocks(&pool).await?);
        findings.push(oldest_transaction(&pool).await?);
        let schema = schema(&pool).await?;
        let is_usable = schema.level < Level::Error;
        findings.push(schema);
        Ok::<bool, sqlx::Error>(is_usable)
    };
    let is_usable = checked.await.unwrap_or_else(|error| {
        findings.push(failed(&error));
        false
    });
    (findings, is_usable.then_some(pool))
}

/// A question that the database did not answer.
pub(super) fn failed(error: &sqlx::Error) -> Finding {
    match error.as_database_error() {
        Some(refusal) if is_permission_missing(error) => Finding::error(
            "grants",
            format!(
                "the role of DATABASE_URL lacks a right: {}",
                refusal.message()
            ),
            "run as the owner of the schema polar_jobs, or let its owner grant what is missing",
        ),
        Some(refusal) => Finding::error("database", refusal.message(), "look at the server's log"),
        None => Finding::error(
            "database",
            error.to_string(),
            "see whether the server answers",
        ),
    }
}

fn unreachable(failure: Failure) -> Finding {
    match failure {
        Failure::Usage(what) => Finding::error("database", what, "correct DATABASE_URL"),
        Failure::Failed(error) => Finding::error(
            "database",
            causes(&error),
            "correct DATABASE_URL, or start the server",
        ),
    }
}

async fn server_version(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let number: String = sqlx::query_scalar("SHOW server_version_num")
        .fetch_one(pool)
        .await?;
    let major = number.parse::<u32>().unwrap_or_default() / 10_000;
    Ok(match major {
        ..14 => Finding::error(
            "postgres",
            format!("version {major} is too old"),
            "use version 14 to 18",
        ),
        14..=18 => Finding::ok("postgres", format!("version {major}")),
        _ => Finding::warning(
            "postgres",
            format!("version {major} was never tried"),
            "use version 14 to 18",
        ),
    })
}

async fn clocks(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let before = Utc::now();
    let theirs: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(pool)
        .await?;
    let middle = before + (Utc::now() - before) / 2;
    let seconds = (theirs - middle).num_seconds().abs();
    let what = format!("this machine and the database differ by {seconds} s");
    let fix = "let both follow a time server; deliveries are refused beyond 300 s";
    Ok(if seconds <= CLOCKS_DIFFER {
        Finding::ok("clock", "this machine and the database agree")
    } else if seconds <= CLOCKS_DISAGREE {
        Finding::warning("clock", what, fix)
    } else {
        Finding::error("clock", what, fix)
    })
}

/// Sees other people's transactions only where the role may; what it sees is reported.
async fn oldest_transaction(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let oldest = sqlx::query(
        "SELECT pid, extract(epoch FROM now() - xact_start)::float8 AS seconds, coalesce(application_name, '') AS name
           FROM pg_catalog.pg_stat_activity
          WHERE xact_start IS NOT NULL AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
            AND pid <> pg_backend_pid()
          ORDER BY xact_start LIMIT 1",
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = oldest else {
        return Ok(Finding::ok("cleanup", "no transaction holds it back"));
    };
    let (pid, seconds, name): (i32, f64, String) = (
        row.try_get("pid")?,
        row.try_get("seconds")?,
        row.try_get("name")?,
    );
    if seconds < OLD_TRANSACTION {
        return Ok(Finding::ok(
            "cleanup",
            format!("the oldest transaction is {seconds:.0} s old"),
        ));
    }
    let minutes = seconds / 60.0;
    let what = format!(
        "a transaction of {minutes:.0} min (process {pid} {name}) keeps dead rows alive, which slows the queue"
    );
    Ok(Finding::warning(
        "cleanup",
        what,
        format!("end it, or SELECT pg_terminate_backend({pid})"),
    ))
}

async fn schema(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    const FIX: &str = "run polar-jobs migrate";
    let needed = connect::newest_version();
    Ok(match connect::schema_version(pool).await? {
        None => Finding::error("schema", "polar_jobs is not there", FIX),
        Some(found) if found < needed => Finding::error(
            "schema",
            format!("version {found}, this program needs {needed}"),
            FIX,
        ),
        Some(found) if found > needed => Finding::warning(
            "schema",
            format!("version {found} is newer than this program knows ({needed})"),
            "install the newer release here too",
        ),
        Some(found) => Finding::ok("schema", format!("version {found}")),
    })
}
