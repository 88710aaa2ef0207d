//! Every organization that we know, turned into sync jobs.

use jobs::contract::{begin, priority};
use jobs::mirror::backfill;
use jobs::types::OrganizationId;
use jobs::{ApplyBenefits, NewJob, SyncCustomer, SyncSubscription};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::cli::{Failure, output};
use crate::operators::{self, Actor, OperatorAction};
use crate::queue::enqueue;

/// Organizations whose jobs are written in one transaction.
const PAGE: i64 = 200;

/// Goes on where the last run stopped. Each page and its place are one transaction.
pub(super) async fn enqueue_all(
    pool: &PgPool,
    actor: &Actor,
    but: Option<Uuid>,
) -> Result<(), Failure> {
    loop {
        let mut transaction = begin(pool).await?;
        let run = backfill::open(&mut transaction, actor.as_str()).await?;
        let page = backfill::page(&mut transaction, run.position, but, PAGE).await?;
        let jobs: Vec<NewJob> = page.iter().copied().flat_map(syncs).collect();
        enqueue::insert_all(&mut transaction, &jobs).await?;
        let count = i64::try_from(page.len()).unwrap_or(i64::MAX);
        backfill::advance(&mut transaction, run.id, page.last().copied(), count).await?;
        if !page.is_empty() {
            let action = OperatorAction::new("backfill", "organizations")
                .with(json!({ "run": run.id, "organizations": count }));
            operators::record(&mut transaction, actor, &action).await?;
        }
        transaction.commit().await?;
        if page.is_empty() {
            let found = output::counted(run.organizations, "organization");
            return output::line(&format!("jobs for {found} are written"));
        }
    }
}

/// The customer's sync brings whoever of its members Polar has not confirmed.
fn syncs(organization_id: OrganizationId) -> [NewJob; 3] {
    [
        NewJob::of(&SyncCustomer { organization_id }),
        NewJob::of(&ApplyBenefits::of(organization_id)),
        NewJob::of(&SyncSubscription::of(organization_id)),
    ]
    .map(|job| job.with_priority(priority::BACKFILL))
}
