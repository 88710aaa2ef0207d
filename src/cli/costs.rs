//! `polar-jobs costs …`

use clap::{Args, Subcommand};
use jobs::mirror::costs::{self, CostFilter, CostRow};

use super::organization::{self, OrganizationName};
use super::output::{self, Format};
use super::refused::{Refused, Retry};
use super::{AppContext, Exit, Failure, connect};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List cost readings, newest first
    List(List),
    /// Send refused costs again at the next run
    Retry(Retry),
}

#[derive(Args)]
pub(super) struct List {
    /// Only those of this organization: its id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: Option<OrganizationName>,
    /// Only those in one state
    #[arg(long, value_parser = ["waiting", "reported", "skipped", "refused"])]
    state: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = output::limit())]
    limit: i64,
    /// Columns for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 2).await?;
    match command {
        Command::List(arguments) => {
            let filter = CostFilter {
                organization: organization::id_of(arguments.organization.as_ref(), &pool).await?,
                state: arguments.state,
            };
            let rows = costs::list(&pool, &filter, arguments.limit).await?;
            output::list(arguments.format, HEADER, &rows, cells)?;
            Ok(Exit::Done)
        }
        Command::Retry(retry) => retry.run(Refused::Costs, &pool, &app.actor).await,
    }
}

const HEADER: [&str; 8] = [
    "id",
    "organization",
    "what",
    "cost in USD",
    "recorded at",
    "state",
    "reported at",
    "reason",
];

fn cells(row: &CostRow) -> [String; 8] {
    let what = match &row.context {
        Some(context) => format!("{}.{context}", row.source),
        None => row.source.clone(),
    };
    [
        row.id.to_string(),
        row.organization_id.to_string(),
        what,
        row.cost_usd.clone().unwrap_or_default(),
        output::moment(row.recorded_at),
        row.state.clone(),
        output::maybe_moment(row.reported_at),
        output::shortened(row.reason.as_deref().unwrap_or_default(), 80),
    ]
}
