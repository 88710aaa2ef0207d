//! Tells Polar what came while billing was off, or was given up.
//!
//! Jobs that find billing not configured end; the mirror remembers what Polar has not confirmed. So
//! every worker that starts with billing looks for it once, beside its work. Where Polar knows
//! everything that is one statement and no job, and unique keys make looking twice harmless.

use jobs::backlog;
use jobs::types::OrganizationId;
use sqlx::PgPool;

use crate::queue::enqueue;

use super::backoff::Backoff;
use super::lease_keeper::IdleStates;

/// Organizations looked up and enqueued at once.
const PAGE: u16 = 2000;

/// See the module. Tries until the database lets it come to the end.
pub(super) async fn run(pool: PgPool, idle: IdleStates) {
    let mut backoff = Backoff::default();
    let (mut after, mut enqueued) = (None, 0);
    loop {
        match page(&pool, after).await {
            Ok((written, next)) => {
                enqueued += written;
                if written > 0 {
                    idle.values().for_each(|idle| idle.wake());
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "what Polar does not have yet cannot be looked up, trying again");
                backoff.wait().await;
            }
        }
    }
    if enqueued > 0 {
        tracing::info!(
            organizations = enqueued,
            "Polar does not have everything yet; jobs are enqueued for it"
        );
    }
}

/// Enqueues one page; returns how many jobs it wrote and where the next page starts.
async fn page(
    pool: &PgPool,
    after: Option<OrganizationId>,
) -> Result<(usize, Option<OrganizationId>), sqlx::Error> {
    let page = backlog::page(pool, after, PAGE).await?;
    let mut connection = pool.acquire().await?;
    let ids = enqueue::insert_all(&mut connection, &page.jobs).await?;
    Ok((ids.iter().flatten().count(), page.next))
}
