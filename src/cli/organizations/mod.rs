//! `polar-jobs organizations …`: how far organizations are in step, what happened to one, and its erasure.

mod show;
mod timeline;

use clap::{Args, Subcommand};
use jobs::contract::begin;
use jobs::mirror::erasure::{self, Erasure};
use jobs::types::{OrganizationId, Timestamp};
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::organization::OrganizationName;
use super::output::{self, Format};
use super::{AppContext, Exit, Failure, connect};
use crate::operators::{self, Actor, OperatorAction};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List organizations, newest first
    List(List),
    /// Show one organization: what the application wants, what Polar has, since when in step
    Show {
        /// The organization: its id, Polar's customer id, its slug or its name
        organization: OrganizationName,
        /// Columns for people, or one JSON object
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show everything that happened to one organization, oldest first
    Timeline {
        /// The organization: its id, Polar's customer id, its slug or its name
        organization: OrganizationName,
        /// At most so many, the newest ones
        #[arg(long, default_value_t = 50, value_parser = output::limit())]
        limit: i64,
        /// Columns for people, or one JSON array
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Erase the personal data of a deleted organization now, and not within 30 days
    ///
    /// Names, addresses and the bodies of deliveries go; ids, amounts and outcomes stay. People who also
    /// belong to a living organization stay there. This cannot be taken back.
    Erase {
        /// The application's id of the organization
        id: Uuid,
    },
}

#[derive(Args)]
pub(super) struct List {
    /// Only those that Polar does not have as they are wanted
    #[arg(long)]
    out_of_step: bool,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = output::limit())]
    limit: i64,
    /// Columns for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A row of `polar_jobs.organization_overview`.
#[derive(Serialize)]
struct Row {
    id: Uuid,
    name: String,
    slug: String,
    status: String,
    deleted_at: Option<Timestamp>,
    plan: Option<String>,
    subscription_status: Option<String>,
    support_tier: Option<String>,
    customer_id: Option<Uuid>,
    in_step: bool,
    in_step_since: Option<Timestamp>,
    waiting_jobs: i64,
    failing_jobs: i64,
    differences: i64,
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 2).await?;
    match command {
        Command::List(list) => {
            let filter = Filter {
                id: None,
                out_of_step: list.out_of_step,
                limit: list.limit,
            };
            output::list(list.format, HEADER, &rows(&pool, filter).await?, cells)?;
            Ok(Exit::Done)
        }
        Command::Show {
            organization,
            format,
        } => show::run(&pool, organization.id(&pool).await?, format).await,
        Command::Timeline {
            organization,
            limit,
            format,
        } => timeline::run(&pool, organization.id(&pool).await?, limit, format).await,
        Command::Erase { id } => erase(&pool, &app.actor, id).await,
    }
}

/// Which organizations are read.
struct Filter {
    id: Option<Uuid>,
    /// Only those that Polar does not have as they are wanted.
    out_of_step: bool,
    limit: i64,
}

async fn rows(pool: &PgPool, filter: Filter) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT id AS "id!", name AS "name!", slug AS "slug!", status AS "status!", deleted_at AS "deleted_at: Timestamp",
                  plan, subscription_status, support_tier, customer_id, in_step AS "in_step!",
                  in_step_since AS "in_step_since: Timestamp", waiting_jobs AS "waiting_jobs!",
                  failing_jobs AS "failing_jobs!", differences AS "differences!"
             FROM polar_jobs.organization_overview
            WHERE ($1::uuid IS NULL OR id = $1) AND NOT ($2 AND in_step)
            ORDER BY created_at DESC, id LIMIT $3"#,
        filter.id,
        filter.out_of_step,
        filter.limit,
    )
    .fetch_all(pool)
    .await
}

/// One organization; it must be known.
async fn row(pool: &PgPool, id: Uuid) -> Result<Row, Failure> {
    let filter = Filter {
        id: Some(id),
        out_of_step: false,
        limit: 1,
    };
    let found = rows(pool, filter).await?.pop();
    found.ok_or_else(|| unknown(id))
}

fn unknown(id: Uuid) -> Failure {
    Failure::failed(format!("there is no organization {id}"))
}

const HEADER: [&str; 8] = [
    "id",
    "name",
    "status",
    "plan",
    "in step",
    "since (UTC)",
    "jobs",
    "differences",
];

fn cells(row: &Row) -> [String; 8] {
    [
        row.id.to_string(),
        output::shortened(&row.name, 40),
        match row.deleted_at {
            Some(_) => "deleted".to_owned(),
            None => output::shortened(&row.status, 24),
        },
        output::shortened(row.plan.as_deref().unwrap_or_default(), 24),
        if row.in_step { "yes" } else { "no" }.to_owned(),
        output::maybe_brief(row.in_step_since),
        jobs_of(row),
        row.differences.to_string(),
    ]
}

fn jobs_of(row: &Row) -> String {
    match row.failing_jobs {
        0 => row.waiting_jobs.to_string(),
        failing => format!("{} ({failing} failing)", row.waiting_jobs),
    }
}

async fn erase(pool: &PgPool, actor: &Actor, id: Uuid) -> Result<Exit, Failure> {
    let organization = OrganizationId(id);
    let mut transaction = begin(pool).await?;
    let people = match erasure::erase(&mut transaction, organization).await? {
        Erasure::Unknown => return Err(unknown(id)),
        Erasure::Living => {
            return Err(Failure::failed(format!(
                "organization {id} lives; only a deleted one can be erased"
            )));
        }
        Erasure::Erased { people } => people,
    };
    let action = OperatorAction::on_organization("organizations erase", id)
        .with(json!({ "people": people }));
    operators::record(&mut transaction, actor, &action).await?;
    transaction.commit().await?;
    erasure::sweep(pool, &[organization], &[]).await?;
    let people = output::counted(people, "user");
    output::line(&format!(
        "organization {id} is erased, with {people} who belong to no other"
    ))?;
    Ok(Exit::Done)
}
