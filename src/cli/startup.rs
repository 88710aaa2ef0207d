//! `polar-jobs startup …`: the startup program, as operators run it.

use std::time::Duration;

use clap::Subcommand;
use jobs::contract::begin;
use jobs::mirror::startup_programs::{self, Wanted};
use jobs::types::OrganizationId;
use jobs::{NewJob, SyncStartupProgram};
use polar::{CallClass, Discount, OrAbsent};
use sqlx::PgPool;
use uuid::Uuid;

use super::clients::{billing_off, call_failed, command_client};
use super::organization::OrganizationName;
use super::{AppContext, Exit, Failure, connect, output};
use crate::operators::{self, OperatorAction};
use crate::queue::enqueue;

/// How long a command waits for a worker to carry it out.
const WAIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Invite an organization: the Scale plan free for a year, once
    ///
    /// A worker carries it out and sends the welcome mail once, however often this is repeated.
    Invite {
        /// The organization: its id, Polar's customer id, its slug or its name
        organization: OrganizationName,
    },
    /// Take an invitation back that was not used
    Revoke {
        /// The organization: its id, Polar's customer id, its slug or its name
        organization: OrganizationName,
    },
    /// Show whether an organization is invited, or has used its invitation
    Status {
        /// The organization: its id, Polar's customer id, its slug or its name
        organization: OrganizationName,
    },
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 2).await?;
    let polar = &app.config.polar;
    let missing = [
        (
            "POLAR_ACCESS_TOKEN and POLAR_ORGANIZATION_ID",
            polar.billing.is_none(),
        ),
        ("POLAR_SCALE_PRODUCT_ID", polar.scale_product.is_none()),
    ];
    let missing = missing.iter().filter(|(_, missing)| *missing);
    let missing: Vec<&str> = missing.map(|(setting, _)| *setting).collect();
    if !missing.is_empty() {
        return Err(Failure::failed(format!(
            "there is no startup program: set {}",
            missing.join(" and ")
        )));
    }
    match command {
        Command::Invite { organization } => {
            order(app, &pool, organization.id(&pool).await?, true).await
        }
        Command::Revoke { organization } => {
            order(app, &pool, organization.id(&pool).await?, false).await
        }
        Command::Status { organization } => show(app, &pool, organization.id(&pool).await?).await,
    }
}

async fn order(
    app: &AppContext,
    pool: &PgPool,
    organization: Uuid,
    invited: bool,
) -> Result<Exit, Failure> {
    let organization_id = OrganizationId(organization);
    require(pool, organization_id).await?;
    let words = if invited {
        "startup invite"
    } else {
        "startup revoke"
    };
    let mut transaction = begin(pool).await?;
    let version = startup_programs::order(&mut transaction, organization_id, invited).await?;
    let job = NewJob::of(&SyncStartupProgram { organization_id });
    enqueue::insert(&mut transaction, &job).await?;
    let action = OperatorAction::on_organization(words, organization);
    operators::record(&mut transaction, &app.actor, &action).await?;
    transaction.commit().await?;
    let done = tokio::time::timeout(WAIT, carried_out(pool, organization_id, version)).await;
    let Ok(done) = done else {
        output::line("it waits for a worker")?;
        return Ok(Exit::Done);
    };
    match done?.refusal {
        Some(reason) => Err(Failure::failed(reason)),
        // An invitation that was used is not made anew.
        None if invited => show(app, pool, organization).await,
        None => {
            output::line("not invited")?;
            Ok(Exit::Done)
        }
    }
}

async fn require(pool: &PgPool, organization: OrganizationId) -> Result<(), Failure> {
    let found = jobs::mirror::api::callers::find(pool, organization, None).await?;
    match found {
        Some(_) => Ok(()),
        None => Err(Failure::failed(format!(
            "there is no organization {organization}"
        ))),
    }
}

async fn carried_out(
    pool: &PgPool,
    organization: OrganizationId,
    version: i64,
) -> Result<Wanted, sqlx::Error> {
    loop {
        let wanted = startup_programs::read(pool, organization).await?;
        if let Some(wanted) = wanted.filter(|wanted| wanted.done_version >= version) {
            return Ok(wanted);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn show(app: &AppContext, pool: &PgPool, organization: Uuid) -> Result<Exit, Failure> {
    let organization = OrganizationId(organization);
    require(pool, organization).await?;
    let polar = command_client(&app.config.polar, pool)?.ok_or_else(billing_off)?;
    let invitation = invitation(&polar.with_class(CallClass::Probe), organization).await;
    let invitation = invitation.map_err(|error| call_failed(error.into()))?;
    output::line(match invitation {
        None => "not invited",
        Some(discount) if discount.is_redeemed() => "consumed",
        Some(_) => "invited",
    })?;
    Ok(Exit::Done)
}

async fn invitation(
    polar: &polar::Client,
    organization: OrganizationId,
) -> Result<Option<Discount>, polar::Error> {
    let external_id = organization.to_string();
    let customer = polar
        .customers()
        .get_by_external_id(&external_id)
        .await
        .or_absent()?;
    match customer.and_then(|customer| SyncStartupProgram::discount_of(&customer.metadata)) {
        Some(id) => polar.discounts().get(id).await.or_absent(),
        None => Ok(None),
    }
}
