//! `organizations timeline`

use jobs::types::Timestamp;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::row;
use crate::cli::output::{self, Format};
use crate::cli::{Exit, Failure};

/// Something that happened.
#[derive(Serialize)]
struct Entry {
    at: Timestamp,
    /// `app`, `polar`, `job`, `mail`, `operator` or `reconcile`.
    source: String,
    what: String,
    outcome: Option<String>,
    reference: String,
}

pub(super) async fn run(
    pool: &PgPool,
    id: Uuid,
    limit: i64,
    format: Format,
) -> Result<Exit, Failure> {
    row(pool, id).await?;
    let mut entries = sqlx::query_as!(
        Entry,
        r#"SELECT at AS "at!: Timestamp", source AS "source!", what AS "what!", outcome, reference AS "reference!"
             FROM polar_jobs.organization_timeline($1, $2)"#,
        id,
        limit,
    )
    .fetch_all(pool)
    .await?;
    entries.reverse();
    output::list(format, HEADER, &entries, cells)?;
    Ok(Exit::Done)
}

const HEADER: [&str; 5] = ["at (UTC)", "source", "what", "outcome", "reference"];

fn cells(entry: &Entry) -> [String; 5] {
    [
        output::brief(entry.at),
        entry.source.clone(),
        output::shortened(&entry.what, 80),
        entry.outcome.clone().unwrap_or_default(),
        entry.reference.clone(),
    ]
}
