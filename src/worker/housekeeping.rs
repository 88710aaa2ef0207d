//! Looks once a second for what somebody must do: queues with due jobs, dead workers, keys to be
//! released. Every process does it; the statements are such that two at once change nothing twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobs::contract::in_time;
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::queue::lease::HEARTBEAT;
use crate::queue::reclaim::{self, Findings, ReclaimedJob, Suspect};
use crate::queue::release;

use super::backoff::Backoff;
use super::database_clock::DatabaseClock;
use super::fetcher::Shared;
use super::lease_keeper::IdleStates;
use super::metrics;

/// How often it looks, and how often while somebody looks dead.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AT_SUSPECTS: Duration = Duration::from_millis(250);
/// How long a suspect has to take its lock again. A living process sees at once that its connection was
/// cut, and reconnects within two seconds.
const CONFIRMATION: Duration = Duration::from_millis(2500);
/// How long nobody is judged by a lease after the database's clock stepped forward: a living worker renews it
/// with its next heartbeat.
const RENEWAL: Duration = HEARTBEAT.saturating_add(CONFIRMATION);
/// A look, or a repair.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Housekeeping {
    pub(super) pool: PgPool,
    pub(super) queues: Vec<String>,
    pub(super) shared: Arc<Shared>,
    pub(super) idle: IdleStates,
}

impl Housekeeping {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut suspected = HashMap::new();
        let mut clock = DatabaseClock::default();
        let mut repairs = OneAtATime::default();
        let mut recoveries = OneAtATime::default();
        loop {
            self.shared.connections.close_idle().await;
            let shared = Arc::clone(&self.shared);
            recoveries.start(async move { shared.connections.recover_idle().await });
            match self.look(&mut suspected, &mut clock).await {
                Ok(work) => {
                    if let Some(work) = work {
                        let idle = self.idle.clone();
                        repairs.start(async move {
                            if work.run().await {
                                idle.values().for_each(|idle| idle.wake());
                            }
                        });
                    }
                    let fast = !suspected.is_empty();
                    tokio::time::sleep(if fast { LOOK_AT_SUSPECTS } else { LOOK }).await;
                }
                Err(error) => {
                    // What we saw before the database was away says nothing about now.
                    suspected.clear();
                    tracing::debug!(%error, "the look for due jobs and dead workers failed, trying again");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Wakes the queues with due jobs. Returns what else there is to do.
    async fn look(
        &self,
        suspected: &mut HashMap<Suspect, Instant>,
        clock: &mut DatabaseClock,
    ) -> Result<Option<Repairs>, sqlx::Error> {
        // The head of a queue that is being emptied is full of dead rows: to look there for what its
        // fetchers see anyway would cost more than they do.
        let idle = |queue: &&String| self.idle.get(*queue).is_some_and(|idle| idle.is_idle());
        let queues: Vec<String> = self.queues.iter().filter(idle).cloned().collect();
        let asked = Instant::now();
        let looked = in_time(ANSWER_TIMEOUT, async {
            let mut connection = self.pool.acquire().await?;
            reclaim::look(&mut connection, self.shared.worker, &queues).await
        });
        let Findings {
            now,
            suspects,
            orphans,
            noted_keys,
            due,
        } = looked.await?;
        clock.read(asked, now, Instant::now());
        for queue in &due {
            if let Some(idle) = self.idle.get(queue) {
                idle.wake();
            }
        }
        suspected.retain(|suspect, _| suspects.contains(suspect));
        for suspect in suspects {
            suspected.entry(suspect).or_insert_with(Instant::now);
        }
        let leases_count = !clock.stepped_within(RENEWAL, Instant::now());
        let dead: Vec<Suspect> = suspected
            .iter()
            .filter(|(suspect, since)| {
                since.elapsed() >= CONFIRMATION && (suspect.lock_is_free || leases_count)
            })
            .map(|(suspect, _)| *suspect)
            .collect();
        let repairs = Repairs {
            pool: self.pool.clone(),
            dead,
            orphans,
            noted_keys,
        };
        Ok(repairs.are_needed().then_some(repairs))
    }
}

/// Work beside the looks, so that none waits for it: what it does may wait for others. It ends where this is dropped.
#[derive(Default)]
struct OneAtATime(JoinSet<()>);

impl OneAtATime {
    /// Leaves it to a later look where the last is still under way.
    fn start(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        while self.0.try_join_next().is_some() {}
        if self.0.is_empty() {
            self.0.spawn(work);
        }
    }
}

/// What a look found, beside due jobs.
struct Repairs {
    pool: PgPool,
    dead: Vec<Suspect>,
    orphans: bool,
    noted_keys: bool,
}

impl Repairs {
    fn are_needed(&self) -> bool {
        !self.dead.is_empty() || self.orphans || self.noted_keys
    }

    /// True if jobs became free.
    async fn run(self) -> bool {
        in_time(ANSWER_TIMEOUT, self.try_run())
            .await
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "a repair failed, trying again");
                false
            })
    }

    async fn try_run(&self) -> Result<bool, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let mut removed = false;
        for suspect in &self.dead {
            if reclaim::remove_dead_worker(&mut connection, *suspect).await? {
                let worker = suspect.worker;
                tracing::warn!(worker, "a worker died, its jobs are reclaimed");
                metrics::worker_reclaimed();
                removed = true;
            }
        }
        let mut freed = false;
        if removed || self.orphans {
            for job in reclaim::reclaim_jobs(&mut connection).await? {
                report_reclaimed(&job);
                freed |= !job.discarded;
            }
        }
        if self.noted_keys {
            freed |= release::release_noted_keys(&mut connection).await? > 0;
        }
        Ok(freed)
    }
}

fn report_reclaimed(job: &ReclaimedJob) {
    let &ReclaimedJob {
        id,
        ref kind,
        ref organization,
        discarded,
    } = job;
    let organization = organization.as_deref();
    if discarded {
        tracing::error!(
            job = id,
            kind,
            organization,
            "the worker died, the job is discarded: its attempts are spent"
        );
    } else {
        tracing::warn!(
            job = id,
            kind,
            organization,
            "the worker died, the job is requeued"
        );
    }
    metrics::job_reclaimed(job);
}
