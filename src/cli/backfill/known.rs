//! Every organization that we know, turned into sync jobs.

use jobs::contract::{begin, priority};
use jobs::mirror::backfill::run;
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

/// Goes on where the last run stopped. Each page and its place are one transaction, so two commands at once share
/// the pages of one run; it ends for both with its last page.
pub(super) async fn enqueue_all(
    pool: &PgPool,
    actor: &Actor,
    but: Option<Uuid>,
) -> Result<(), Failure> {
    let mut begun = None;
    loop {
        let mut transaction = begin(pool).await?;
        let run = run::open(&mut transaction, actor.as_str()).await?;
        let Some(run) = run.filter(|run| begun.is_none_or(|id| id == run.id)) else {
            // Where ours was finished between two pages, the row is a new run's, which nobody asked for.
            transaction.rollback().await?;
            return output::line("the run was finished by another backfill beside this one");
        };
        if begun.is_none() && run.position.is_some() {
            let done = output::counted(run.organizations, "organization");
            output::line(&format!(
                "goes on with a run that was stopped: the jobs of its first {done} were written then"
            ))?;
        }
        begun = Some(run.id);
        let page = run::page(&mut transaction, run.position, but, PAGE).await?;
        let jobs: Vec<NewJob> = page.iter().copied().flat_map(syncs).collect();
        enqueue::insert_all(&mut transaction, &jobs).await?;
        let count = i64::try_from(page.len()).unwrap_or(i64::MAX);
        run::advance(&mut transaction, run.id, page.last().copied(), count).await?;
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
