//! `polar-jobs reconcile`

mod strangers;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use jobs::comparison::{Batch, Finding, Run};
use jobs::contract::{Verdict, begin};
use jobs::mirror::differences::{self, OpenDifference};
use jobs::mirror::{clock, held};
use jobs::types::OrganizationId;
use jobs::{Error, NewJob};
use polar::CallClass;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::clients::{billing_off, command_client, refused_here};
use super::organization::{self, OrganizationName};
use super::output::{self, Format};
use super::progress::Progress;
use super::{AppContext, Exit, Failure, connect};
use crate::operators::{self, Actor, OperatorAction};
use crate::queue::enqueue;

/// Organizations that a message names.
const NAMED: usize = 5;
/// So that a failure that asks for no wait does not make us ask in a tight loop.
const MINIMUM_WAIT: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(super) struct Arguments {
    /// Enqueue the jobs that repair what differs
    #[arg(long)]
    repair: bool,
    /// Delete customers and members at Polar that are none of ours
    ///
    /// Customers without an external id, our own organization, and a customer's owner are never deleted.
    #[arg(long, requires = "repair")]
    strangers: bool,
    /// Compare only this organization: its id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: Option<OrganizationName>,
    /// Columns for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(arguments: Arguments, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 3).await?;
    let polar = command_client(&app.config.polar, &pool)?.ok_or_else(billing_off)?;
    let polar = polar.with_class(CallClass::Bulk);
    let run = Run {
        pool: &pool,
        polar: &polar,
        self_organization: app.config.self_organization(),
        since: clock::now(&pool).await?,
        repair: arguments.repair,
    };
    let command = Reconciliation {
        run,
        actor: &app.actor,
        delete_strangers: arguments.strangers,
    };
    let organization = organization::id_of(arguments.organization.as_ref(), &pool).await?;
    let missed = match organization {
        Some(organization) => {
            command.one(OrganizationId(organization)).await?;
            Vec::new()
        }
        None => command.everybody().await?,
    };
    let open = differences::open(&pool, organization).await?;
    print(arguments.format, &open)?;
    if !missed.is_empty() {
        return Err(Failure::failed(not_compared(&missed)));
    }
    Ok(match open.is_empty() || arguments.repair {
        true => Exit::Done,
        false => Exit::ChecksFailed,
    })
}

/// What could not be compared is not in step as far as anybody knows.
fn not_compared(missed: &[OrganizationId]) -> String {
    format!(
        "{} could not be compared ({}): Polar failed for them, or they were deleted meanwhile; run it again",
        output::counted(missed.len(), "organization"),
        output::first_of(missed.iter(), NAMED)
    )
}

struct Reconciliation<'a> {
    run: Run<'a>,
    actor: &'a Actor,
    delete_strangers: bool,
}

impl Reconciliation<'_> {
    async fn one(&self, organization: OrganizationId) -> Result<(), Failure> {
        if self.run.self_organization == Some(organization.0) {
            return Err(Failure::usage(format!(
                "{organization} is POLAR_ORGANIZATION_ID: the self organization is no customer of its own"
            )));
        }
        if held::organization(self.run.pool, organization)
            .await?
            .is_none()
        {
            return Err(Failure::failed(format!(
                "there is no living organization {organization}"
            )));
        }
        let finding = until_answered(|| self.run.one(organization)).await?;
        let mut findings = vec![finding];
        if self.delete_strangers {
            self.delete_members(&mut findings).await?;
        }
        if findings.iter().any(|one| one.comparison.is_none()) {
            return Err(Failure::failed(format!(
                "organization {organization} could not be compared: it was deleted meanwhile, or Polar failed; try again"
            )));
        }
        self.write(findings, Some(organization.0)).await
    }

    /// Returns the organizations that could not be compared.
    async fn everybody(&self) -> Result<Vec<OrganizationId>, Failure> {
        let Run {
            pool,
            since,
            repair,
            self_organization,
            ..
        } = self.run;
        let left = differences::left(pool, since, repair, self_organization).await?;
        let progress = Progress::new("organizations compared", left);
        let mut missed = Vec::new();
        loop {
            let Batch {
                mut findings,
                failure,
                is_last,
            } = until_answered(|| self.run.next()).await?;
            let mut deleted = Ok(());
            if self.delete_strangers {
                deleted = self.delete_members(&mut findings).await;
            }
            let (compared, unknown): (Vec<_>, Vec<_>) =
                findings.iter().partition(|one| one.comparison.is_some());
            progress.advance(compared.len());
            missed.extend(unknown.iter().map(|one| one.organization));
            // What was found is kept, whatever failed behind it.
            self.write(findings, None).await?;
            deleted?;
            if let Some(failure) = failure {
                wait_for(failure).await?;
            }
            if is_last {
                break;
            }
        }
        progress.finish();
        self.strangers().await?;
        Ok(missed)
    }

    async fn write(
        &self,
        findings: Vec<Finding>,
        organization: Option<Uuid>,
    ) -> Result<(), Failure> {
        let mut transaction = begin(self.run.pool).await?;
        let repairs = self.run.write(&mut transaction, findings).await?;
        self.enqueue(&mut transaction, repairs, organization)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Looks for customers who are none of ours.
    async fn strangers(&self) -> Result<(), Failure> {
        let Run {
            pool,
            since,
            self_organization,
            ..
        } = self.run;
        let mut page = 1;
        loop {
            let strangers = until_answered(|| self.run.strangers(page)).await?;
            if self.delete_strangers && !strangers.customers.is_empty() {
                self.delete_customers(&strangers.customers).await?;
                // What was deleted moved the others forward: the same page has new ones.
                continue;
            }
            let mut transaction = begin(pool).await?;
            strangers.write(&mut transaction).await?;
            if strangers.is_last {
                differences::close_gone(&mut transaction, since, self_organization).await?;
            }
            transaction.commit().await?;
            if strangers.is_last {
                return Ok(());
            }
            page += 1;
        }
    }

    async fn enqueue(
        &self,
        connection: &mut PgConnection,
        repairs: Vec<NewJob>,
        organization: Option<Uuid>,
    ) -> Result<(), Failure> {
        if repairs.is_empty() {
            return Ok(());
        }
        enqueue::insert_all(connection, &repairs).await?;
        let action = match organization {
            Some(id) => OperatorAction::on_organization("reconcile --repair", id),
            None => OperatorAction::new("reconcile --repair", "organizations"),
        };
        let action = action.with(json!({ "jobs": repairs.len() }));
        Ok(operators::record(connection, self.actor, &action).await?)
    }
}

/// Asks again until there is an answer; see [`wait_for`].
async fn until_answered<T, F: Future<Output = Result<T, Error>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, Failure> {
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => wait_for(error).await?,
        }
    }
}

/// Waits as long as Polar, or our budget, asks for.
///
/// Fails with what does not pass by waiting, as a token that Polar refuses.
async fn wait_for(error: Error) -> Result<(), Failure> {
    if let Some(refused) = refused_here(&error) {
        return Err(refused);
    }
    let Verdict::Wait { after, reason, .. } = error.verdict() else {
        return Err(Failure::failed(error.to_string()));
    };
    tracing::info!(%reason, seconds = after.as_secs(), "waiting for Polar");
    tokio::time::sleep(after.max(MINIMUM_WAIT)).await;
    Ok(())
}

fn print(format: Format, open: &[OpenDifference]) -> Result<(), Failure> {
    if open.is_empty() && format != Format::Json {
        return output::line("nothing differs");
    }
    output::list(format, HEADER, open, cells)?;
    if format == Format::Json {
        return Ok(());
    }
    let mut causes: BTreeMap<&str, i64> = BTreeMap::new();
    for difference in open {
        *causes.entry(&difference.cause).or_default() += 1;
    }
    output::line("")?;
    for (cause, count) in causes {
        output::line(&format!(
            "{}: {cause}",
            output::counted(count, "difference")
        ))?;
    }
    Ok(())
}

const HEADER: [&str; 6] = [
    "organization",
    "subject",
    "wanted",
    "found",
    "cause",
    "since (UTC)",
];

fn cells(difference: &OpenDifference) -> [String; 6] {
    let side = |side: &Option<serde_json::Value>| {
        let text = side.as_ref().map(ToString::to_string);
        output::shortened(&text.unwrap_or_else(|| "nothing".to_owned()), 60)
    };
    [
        difference
            .organization_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        difference.subject.clone(),
        side(&difference.wanted),
        side(&difference.found),
        output::shortened(&difference.cause, 60),
        output::brief(difference.first_seen),
    ]
}
