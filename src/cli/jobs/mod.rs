//! `polar-jobs jobs …`: the job table for people.

mod act;
mod failures;
mod show;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use jobs::types::Timestamp;
use sqlx::PgPool;

use super::organization::{self, OrganizationName};
use super::output::{self, Format};
use super::{AppContext, Exit, Failure, connect};
use crate::queue::table::{self, Action, Filter, JobRow, State};

/// Lists are for people: one connection is enough, the second one is for a look beside it.
const CONNECTIONS: u32 = 2;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List jobs, newest first
    ///
    /// `when` is the time at which a job ended, began to run, or may run: its state says which.
    List(List),
    /// Show one job: its attempts and errors, why it waits, and what can be done
    Show {
        /// The job's id
        id: i64,
        /// Columns for people, or one JSON object
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Run waiting jobs now, or finished ones again
    ///
    /// A job that runs again keeps its id and its errors and gets a new budget of attempts. Without
    /// ids, every job that the filters mean (by default the discarded ones) is taken.
    Retry(Which),
    /// Cancel unfinished jobs
    ///
    /// A running job is cancelled in the table at once; what its worker stores afterwards changes
    /// nothing. Without ids, every job that the filters mean (by default the waiting ones) is taken.
    Cancel(Which),
    /// Discard unfinished jobs: as cancel, but they count as failed
    Discard(Which),
    /// Take note of discarded jobs: `doctor` and the gauges stop warning of them
    ///
    /// For what will not be run again: the cause is gone, or somebody did it by hand. Without ids, every
    /// discarded job that the filters mean is taken.
    Acknowledge(Which),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    filters: Filters,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = output::limit())]
    limit: i64,
    /// Columns for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args)]
pub(super) struct Which {
    /// Ids of jobs
    #[arg(value_name = "ID", conflicts_with_all = ["state", "kind", "queue", "organization", "limit"])]
    ids: Vec<i64>,
    #[command(flatten)]
    filters: Filters,
    /// At most so many, oldest first
    #[arg(long, value_parser = output::limit())]
    limit: Option<i64>,
    /// Do it to all jobs that the filters mean
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
struct Filters {
    /// Only jobs in this state
    #[arg(long, value_parser = state_name())]
    state: Option<State>,
    /// Only jobs of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs in this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only jobs of this organization: its id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: Option<OrganizationName>,
}

fn state_name() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.map(State::name))
        .map(|name| State::named(&name).expect("no other values are possible"))
}

impl Filters {
    async fn with_limit(self, limit: Option<i64>, pool: &PgPool) -> Result<Filter, Failure> {
        Ok(Filter {
            state: self.state,
            kind: self.kind,
            queue: self.queue,
            organization: organization::id_of(self.organization.as_ref(), pool).await?,
            limit,
        })
    }
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, CONNECTIONS).await?;
    match command {
        Command::List(List {
            filters,
            limit,
            format,
        }) => {
            let filter = filters.with_limit(Some(limit), &pool).await?;
            let rows = table::list(&pool, &filter).await?;
            output::list(format, HEADER, &rows, cells)?;
            Ok(Exit::Done)
        }
        Command::Show { id, format } => show::run(&pool, id, format).await,
        Command::Retry(which) => act::run(&pool, &app.actor, Action::Retry, which).await,
        Command::Cancel(which) => act::run(&pool, &app.actor, Action::Cancel, which).await,
        Command::Discard(which) => act::run(&pool, &app.actor, Action::Discard, which).await,
        Command::Acknowledge(which) => {
            act::run(&pool, &app.actor, Action::Acknowledge, which).await
        }
    }
}

const HEADER: [&str; 8] = [
    "id",
    "kind",
    "organization",
    "queue",
    "state",
    "try",
    "when (UTC)",
    "last error or note",
];

fn cells(job: &JobRow) -> [String; 8] {
    [
        job.id.to_string(),
        job.kind.clone(),
        output::organization(job.organization.as_deref(), job.organization_id),
        job.queue.clone(),
        job.state.to_string(),
        job.attempt.to_string(),
        output::brief(when(job)),
        output::shortened(&last_word(job), 60),
    ]
}

/// When it ended, began to run, or may run: its state says which.
fn when(job: &JobRow) -> Timestamp {
    let began = job.started_at.filter(|_| job.state == State::Running);
    job.finished_at.or(began).unwrap_or(job.run_at)
}

/// The newest thing that is said about a job.
fn last_word(job: &JobRow) -> String {
    let failure = || failures::of(job).pop().map(|failure| failure.error);
    job.note.clone().or_else(failure).unwrap_or_default()
}
