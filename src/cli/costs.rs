//! `polar-jobs costs …`

use clap::{Args, Subcommand};
use jobs::contract::begin;
use jobs::mirror::costs::{self, CostFilter, CostRow};
use serde_json::json;

use super::organization::{self, OrganizationName};
use super::output::{self, Format};
use super::{AppContext, Exit, Failure, connect};
use crate::operators::{self, OperatorAction};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List cost readings, newest first
    List(List),
    /// Send refused costs again at the next run
    Retry {
        /// Only those of this organization: its id, Polar's customer id, its slug or its name
        #[arg(long)]
        organization: Option<OrganizationName>,
        /// Do it; without, only say how many
        #[arg(long)]
        yes: bool,
    },
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
        Command::Retry {
            organization,
            yes: true,
        } => {
            let organization = organization::id_of(organization.as_ref(), &pool).await?;
            let mut transaction = begin(&pool).await?;
            let retried = costs::retry_refused(&mut *transaction, organization).await?;
            if retried > 0 {
                let action = OperatorAction::new("costs retry", "costs")
                    .about(organization)
                    .with(json!({ "costs": retried }));
                operators::record(&mut transaction, &app.actor, &action).await?;
            }
            transaction.commit().await?;
            output::line(&format!("{retried} costs are sent again at the next run"))?;
            Ok(Exit::Done)
        }
        Command::Retry {
            organization,
            yes: false,
        } => {
            let filter = CostFilter {
                organization: organization::id_of(organization.as_ref(), &pool).await?,
                state: Some("refused".to_owned()),
            };
            let refused = costs::list(&pool, &filter, i64::MAX).await?.len();
            if refused == 0 {
                output::line("no cost was refused")?;
                return Ok(Exit::Done);
            }
            Err(Failure::usage(format!(
                "{refused} costs would be sent again; repeat with --yes"
            )))
        }
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
