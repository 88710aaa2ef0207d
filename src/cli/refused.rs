//! `costs retry` and `usage retry`: what Polar refused is sent again, once its cause is repaired.

use clap::Args;
use jobs::contract::begin;
use jobs::mirror::{costs, usage};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::organization::{self, OrganizationName};
use super::output::{self, counted};
use super::{Exit, Failure};
use crate::operators::{self, Actor, OperatorAction};

#[derive(Args)]
pub(super) struct Retry {
    /// Only those of this organization: its id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: Option<OrganizationName>,
    /// Do it; without, only say how many
    #[arg(long)]
    yes: bool,
}

/// What is sent again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    Costs,
    Reports,
}

impl Retry {
    pub(super) async fn run(
        self,
        refused: Refused,
        pool: &PgPool,
        actor: &Actor,
    ) -> Result<Exit, Failure> {
        let organization = organization::id_of(self.organization.as_ref(), pool).await?;
        if !self.yes {
            return tell(refused, pool, organization).await;
        }
        let mut transaction = begin(pool).await?;
        let retried = refused.retry(&mut transaction, organization).await?;
        if retried > 0 {
            let action = refused.action(retried).about(organization);
            operators::record(&mut transaction, actor, &action).await?;
        }
        transaction.commit().await?;
        output::line(&refused.sent_again(retried))?;
        Ok(Exit::Done)
    }
}

/// Says how many it would be.
async fn tell(
    refused: Refused,
    pool: &PgPool,
    organization: Option<Uuid>,
) -> Result<Exit, Failure> {
    let count = refused.count(pool, organization).await?;
    let one = refused.one();
    if count == 0 {
        output::line(&format!("no {one} was refused"))?;
        return Ok(Exit::Done);
    }
    Err(Failure::usage(format!(
        "{} would be sent again; repeat with --yes",
        counted(count, one)
    )))
}

impl Refused {
    fn one(self) -> &'static str {
        match self {
            Self::Costs => "cost",
            Self::Reports => "report",
        }
    }

    async fn count(self, pool: &PgPool, organization: Option<Uuid>) -> Result<i64, sqlx::Error> {
        match self {
            Self::Costs => costs::count_refused(pool, organization).await,
            Self::Reports => usage::count_refused(pool, organization).await,
        }
    }

    async fn retry(
        self,
        connection: &mut PgConnection,
        organization: Option<Uuid>,
    ) -> Result<u64, sqlx::Error> {
        match self {
            Self::Costs => costs::retry_refused(connection, organization).await,
            Self::Reports => usage::retry_refused(connection, organization).await,
        }
    }

    fn action(self, retried: u64) -> OperatorAction {
        match self {
            Self::Costs => {
                OperatorAction::new("costs retry", "costs").with(json!({ "costs": retried }))
            }
            Self::Reports => {
                OperatorAction::new("usage retry", "usage").with(json!({ "reports": retried }))
            }
        }
    }

    fn sent_again(self, retried: u64) -> String {
        format!(
            "sent again at the next run: {}",
            counted(retried, self.one())
        )
    }
}
