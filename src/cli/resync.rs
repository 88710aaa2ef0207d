//! `polar-jobs resync`: everything of an organization once more, whatever is believed to be in step.

use std::collections::BTreeSet;

use clap::{ArgGroup, Args};
use jobs::backlog::resync;
use jobs::contract::begin;
use jobs::types::OrganizationId;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::organization::{self, OrganizationName};
use super::output;
use super::{AppContext, Exit, Failure, connect};
use crate::operators::{self, Actor, OperatorAction};
use crate::queue::{enqueue, idle};

/// Organizations looked up at a time.
const PAGE: u16 = 500;

/// Whose.
#[derive(Args)]
#[command(group(ArgGroup::new("whose").required(true).args(["organization", "all"])))]
pub(super) struct Arguments {
    /// This organization: its id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: Option<OrganizationName>,
    /// Every organization, deleted ones included
    #[arg(long)]
    all: bool,
    /// Do it to every organization; without, only say how many there are
    #[arg(long, conflicts_with = "organization")]
    yes: bool,
}

pub(super) async fn run(arguments: Arguments, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 2).await?;
    if app.config.polar.billing.is_none() {
        tracing::warn!(
            "billing is off here: where it is off for the workers too, these jobs end as not configured"
        );
    }
    match organization::id_of(arguments.organization.as_ref(), &pool).await? {
        Some(organization) => one(&pool, &app.actor, organization).await,
        None => all(&pool, &app.actor, arguments.yes).await,
    }
}

async fn one(pool: &PgPool, actor: &Actor, organization: Uuid) -> Result<Exit, Failure> {
    let jobs = enqueue(pool, actor, OrganizationId(organization)).await?;
    if jobs == 0 {
        return Err(Failure::failed(format!(
            "there is no organization {organization}"
        )));
    }
    output::line(&format!(
        "{} of organization {organization} run as soon as slots are free",
        output::counted(jobs, "job")
    ))?;
    Ok(Exit::Done)
}

async fn all(pool: &PgPool, actor: &Actor, yes: bool) -> Result<Exit, Failure> {
    if !yes {
        let count = resync::count(pool).await?;
        if count == 0 {
            output::line("there is no organization yet")?;
            return Ok(Exit::Done);
        }
        let count = output::counted(count, "organization");
        return Err(Failure::usage(format!(
            "resync would ask Polar about everything of {count}; add --yes to do it"
        )));
    }
    let (mut organizations, mut jobs, mut after) = (0, 0, None);
    loop {
        let page = resync::organizations(pool, after, PAGE).await?;
        for &organization in &page {
            jobs += enqueue(pool, actor, organization).await?;
        }
        organizations += page.len();
        after = page.last().copied();
        if page.len() < usize::from(PAGE) {
            break;
        }
    }
    output::line(&format!(
        "{} of {} run as soon as slots are free",
        output::counted(jobs, "job"),
        output::counted(organizations, "organization")
    ))?;
    Ok(Exit::Done)
}

/// One organization, in a transaction with the record of who asked. Returns how many jobs there are for it.
pub(super) async fn enqueue(
    pool: &PgPool,
    actor: &Actor,
    organization: OrganizationId,
) -> Result<usize, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    let jobs = resync::jobs_of(&mut transaction, organization).await?;
    if !jobs.is_empty() {
        enqueue::insert_all(&mut transaction, &jobs).await?;
        let action = OperatorAction::on_organization("resync", organization.0)
            .with(json!({ "jobs": jobs.len() }));
        operators::record(&mut transaction, actor, &action).await?;
        for queue in jobs
            .iter()
            .map(|job| job.queue.name())
            .collect::<BTreeSet<_>>()
        {
            idle::wake_at_commit(&mut transaction, queue).await?;
        }
    }
    transaction.commit().await?;
    Ok(jobs.len())
}
