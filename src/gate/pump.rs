//! The task that talks to the fleet for all calls of a process: what it asks for, it asks for once
//! for everybody who waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::agenda::{PendingNews, Step};
use super::authorization::News;
use super::budget::Demand;
use super::ledger::Ledger;
use super::meters;
use super::shared::Shared;

/// Serves the calls that wait, for ever.
pub(super) async fn run(shared: Arc<Shared>, ledger: Ledger, database: Duration) {
    let mut failing = false;
    loop {
        let step = shared.lock().step(Instant::now());
        let asked = match step {
            Step::Tell(news) => Some(in_time(database, tell(&shared, &ledger, news)).await),
            Step::Lease(demand) => Some(in_time(database, lease(&shared, &ledger, demand)).await),
            Step::Sleep(until) => {
                sleep(&shared, until).await;
                None
            }
        };
        match asked {
            Some(Err(error)) => {
                if !failing {
                    tracing::error!(%error, "the call budget cannot be read; no call goes to Polar until it can");
                }
                failing = true;
                shared.lock().database_failed(Instant::now());
            }
            Some(Ok(())) => {
                if failing {
                    tracing::info!("the call budget can be read again");
                }
                failing = false;
            }
            None => {}
        }
        shared.serve();
    }
}

async fn lease(shared: &Shared, ledger: &Ledger, demand: Demand) -> Result<(), sqlx::Error> {
    let (lease, ends) = ledger.lease(demand).await?;
    meters::budget_left(lease.calls_left);
    shared.lock().leased(lease, ends, Instant::now());
    Ok(())
}

async fn tell(shared: &Shared, ledger: &Ledger, news: PendingNews) -> Result<(), sqlx::Error> {
    if let Some(until) = news.wait_until {
        ledger
            .wait(until.saturating_duration_since(Instant::now()))
            .await?;
    }
    match news.token {
        Some(News::Refused) if ledger.refuse().await? => {
            tracing::error!(
                "Polar refuses the access token: all outward work is paused and tried once a minute; check POLAR_ACCESS_TOKEN"
            );
        }
        Some(News::Accepted) if ledger.resume().await? => {
            tracing::info!("Polar takes the access token again: outward work resumes");
        }
        _ => {}
    }
    shared.lock().told(news);
    Ok(())
}

async fn in_time(
    limit: Duration,
    question: impl Future<Output = Result<(), sqlx::Error>>,
) -> Result<(), sqlx::Error> {
    tokio::time::timeout(limit, question)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn sleep(shared: &Shared, until: Option<Instant>) {
    match until {
        Some(until) => {
            // Either is a reason to look again.
            let _ = tokio::time::timeout_at(until.into(), shared.changed.notified()).await;
        }
        None => shared.changed.notified().await,
    }
}
