//! `polar-jobs events …`: what came in over HTTP.

mod replay;

use clap::{Args, Subcommand, ValueEnum};
use jobs::types::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::organization::{self, OrganizationName};
use super::output::{self, Format};
use super::{AppContext, Exit, Failure, connect};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List deliveries of Polar and changes of the application, newest first
    List(List),
    /// Show one event with its data and the jobs that it caused
    Show {
        /// The event's id
        id: i64,
        /// Columns for people, or one JSON object
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Run events again, or show what that would change
    ///
    /// An old change never turns back time: what was recorded later stays.
    Replay(replay::Replay),
}

#[derive(Args)]
pub(super) struct List {
    /// Only events from here
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// Only events of this type, such as subscription.updated
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only events with this outcome
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// Only events whose data name this organization: its id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: Option<OrganizationName>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = output::limit())]
    limit: i64,
    /// Columns for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Source {
    Polar,
    App,
}

#[derive(Clone, Copy, ValueEnum)]
enum Outcome {
    /// Not handled yet
    Pending,
    Applied,
    Ignored,
    Failed,
}

/// A row of `polar_jobs.external_events`, without its bytes.
#[derive(Serialize)]
struct Row {
    id: i64,
    source: String,
    external_id: Option<String>,
    r#type: Option<String>,
    data: Option<Json<Box<RawValue>>>,
    received_at: Timestamp,
    handled_at: Option<Timestamp>,
    outcome: Option<String>,
    note: Option<String>,
    organization_id: Option<Uuid>,
    organization: Option<String>,
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 2).await?;
    match command {
        Command::List(list) => {
            let organization = organization::id_of(list.organization.as_ref(), &pool).await?;
            let rows = rows(&pool, &list, organization).await?;
            output::list(list.format, HEADER, &rows, cells)?;
            Ok(Exit::Done)
        }
        Command::Show { id, format } => show(&pool, id, format).await,
        Command::Replay(arguments) => replay::run(arguments, &pool, app).await,
    }
}

async fn rows(
    pool: &PgPool,
    list: &List,
    organization: Option<Uuid>,
) -> Result<Vec<Row>, sqlx::Error> {
    let source = list.source.map(|source| match source {
        Source::Polar => "polar",
        Source::App => "app",
    });
    let outcome = list.outcome.map(|outcome| match outcome {
        Outcome::Pending => "pending",
        Outcome::Applied => "applied",
        Outcome::Ignored => "ignored",
        Outcome::Failed => "failed",
    });
    sqlx::query_as!(
        Row,
        r#"SELECT id AS "id!", source AS "source!", external_id, type,
                  data AS "data: Json<Box<RawValue>>", received_at AS "received_at!: Timestamp",
                  handled_at AS "handled_at: Timestamp", outcome, note,
                  polar_jobs.organization_of_event(type, data) AS organization_id,
                  (SELECT o.name FROM polar_jobs.organizations o
                    WHERE o.id = polar_jobs.organization_of_event(type, data)) AS organization
             FROM polar_jobs.external_events
            WHERE ($1::text IS NULL OR source = $1)
              AND ($2::text IS NULL OR type = $2)
              AND ($3::text IS NULL OR coalesce(outcome, 'pending') = $3)
              AND ($4::text IS NULL OR strpos(lower(data::text), $4) > 0)
            ORDER BY id DESC LIMIT $5"#,
        source,
        list.kind,
        outcome,
        organization.map(|id| id.to_string()),
        list.limit,
    )
    .fetch_all(pool)
    .await
}

const HEADER: [&str; 7] = [
    "id",
    "source",
    "type",
    "organization",
    "received (UTC)",
    "outcome",
    "external id",
];

fn cells(row: &Row) -> [String; 7] {
    [
        row.id.to_string(),
        row.source.clone(),
        type_of(row),
        output::organization(row.organization.as_deref(), row.organization_id),
        output::brief(row.received_at),
        outcome_of(row),
        row.external_id.clone().unwrap_or_default(),
    ]
}

fn type_of(row: &Row) -> String {
    let unreadable = || "(unreadable)".to_owned();
    row.r#type.clone().unwrap_or_else(unreadable)
}

fn outcome_of(row: &Row) -> String {
    let pending = || "(pending)".to_owned();
    row.outcome.clone().unwrap_or_else(pending)
}

/// Everything but the data, for `show`.
fn facts(row: &Row) -> [(&'static str, String); 9] {
    [
        ("id", row.id.to_string()),
        ("source", row.source.clone()),
        ("type", type_of(row)),
        (
            "organization",
            output::organization(row.organization.as_deref(), row.organization_id),
        ),
        ("external id", row.external_id.clone().unwrap_or_default()),
        ("received at", output::moment(row.received_at)),
        ("handled at", output::maybe_moment(row.handled_at)),
        ("outcome", outcome_of(row)),
        ("note", row.note.clone().unwrap_or_default()),
    ]
}

async fn show(pool: &PgPool, id: i64, format: Format) -> Result<Exit, Failure> {
    let found = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id!", source AS "source!", external_id, type,
                  data AS "data: Json<Box<RawValue>>", received_at AS "received_at!: Timestamp",
                  handled_at AS "handled_at: Timestamp", outcome, note,
                  polar_jobs.organization_of_event(type, data) AS organization_id,
                  (SELECT o.name FROM polar_jobs.organizations o
                    WHERE o.id = polar_jobs.organization_of_event(type, data)) AS organization
             FROM polar_jobs.external_events WHERE id = $1"#,
        id,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = found else {
        return Err(Failure::failed(format!(
            "there is no event {id}; events are kept for 90 days"
        )));
    };
    let jobs = crate::queue::table::caused_by(pool, id).await?;
    match format {
        Format::Json => {
            let jobs = jobs.iter().map(|job| job.id).collect();
            output::json_with(&row, &[("jobs", jobs)])?;
        }
        Format::Table => {
            for (name, value) in facts(&row) {
                output::line(&format!("{name:<12} {}", output::flat(&value)))?;
            }
            for job in &jobs {
                let kind = output::flat(&job.kind);
                output::line(&format!("{:<12} {} {kind} {}", "job", job.id, job.state))?;
            }
            let data = row.data.as_ref().map(|data| pretty(data));
            output::line(data.as_deref().unwrap_or("(no JSON that can be shown)"))?;
        }
    }
    Ok(Exit::Done)
}

/// Indented, unless it is nested deeper or its numbers are larger than the parser takes.
fn pretty(data: &RawValue) -> String {
    serde_json::from_str::<Value>(data.get())
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| data.get().to_owned())
}
