//! How far ahead of its slots a process claims, and when a job that was claimed ahead may run.
//!
//! A commit costs the same for one job as for a thousand, and where jobs take less than a millisecond, fifty slots are
//! empty long before the next commit; so fetchers claim ahead, as many jobs as the slots finish within a moment. Never
//! more jobs run at once than there are slots: a job that was claimed ahead and gets no permit to run soon is released,
//! because those before it turned out slow and another worker may be free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Jobs are claimed for so long ahead.
const AHEAD: Duration = Duration::from_millis(1);
/// Most jobs that are claimed ahead: two full claims, one for each fetcher.
const FURTHEST: usize = 2000;
/// How long a job that was claimed ahead waits for a permit.
const PERMIT_TIMEOUT: Duration = Duration::from_millis(100);
/// One job's weight in the mean is one in so many.
const MEMORY: u64 = 16;

/// The prefetch of one queue; see the module.
#[derive(Clone, Debug)]
pub(super) struct Prefetch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: usize,
    queue: Arc<Semaphore>,
    process: Arc<Semaphore>,
    /// Nanoseconds that a job of this queue took of late.
    mean: AtomicU64,
}

/// The right to run. Dropping it makes room.
#[derive(Debug)]
pub(super) struct RunPermit {
    prefetch: Prefetch,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Prefetch {
    /// For a queue that may run `slots` jobs at once, in a process that may run so many. At first no
    /// job is known to be short.
    pub(super) fn new(slots: usize, process: &Arc<Semaphore>) -> Self {
        Self(Arc::new(Inner {
            slots,
            queue: Arc::new(Semaphore::new(slots)),
            process: Arc::clone(process),
            mean: AtomicU64::new(nanoseconds(AHEAD)),
        }))
    }

    /// How many jobs may be claimed beyond the slots now: none while every permit is taken.
    pub(super) fn ahead(&self) -> usize {
        if self.0.queue.available_permits() == 0 || self.0.process.available_permits() == 0 {
            return 0;
        }
        let rounds = nanoseconds(AHEAD) / self.0.mean.load(Ordering::Relaxed).max(1);
        match usize::try_from(rounds) {
            Ok(0 | 1) => 0,
            Ok(rounds) => self.0.slots.saturating_mul(rounds).min(FURTHEST),
            Err(_) => FURTHEST,
        }
    }

    /// A permit, if one is free.
    pub(super) fn permit_now(&self) -> Option<RunPermit> {
        let queue = Arc::clone(&self.0.queue).try_acquire_owned().ok()?;
        let process = Arc::clone(&self.0.process).try_acquire_owned().ok()?;
        Some(self.permit([queue, process]))
    }

    /// A permit for a job that was claimed at `claimed`, or `None` where none comes free in time: then jobs are not as
    /// short as they were.
    pub(super) async fn permit_soon(self, claimed: Instant) -> Option<RunPermit> {
        let until = claimed + PERMIT_TIMEOUT;
        let permits = tokio::time::timeout_at(until.into(), self.free_soon()).await;
        if permits.is_err() {
            self.0.mean.store(nanoseconds(AHEAD), Ordering::Relaxed);
        }
        Some(self.permit(permits.ok()??))
    }

    fn permit(&self, permits: [OwnedSemaphorePermit; 2]) -> RunPermit {
        RunPermit {
            prefetch: self.clone(),
            _permits: permits,
        }
    }

    async fn free_soon(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let queue = Arc::clone(&self.0.queue).acquire_owned().await.ok()?;
        let process = Arc::clone(&self.0.process).acquire_owned().await.ok()?;
        Some([queue, process])
    }

    /// Of two jobs that end at once one duration may be lost, which hardly moves the mean.
    fn remember(&self, took: Duration) {
        let mean = self.0.mean.load(Ordering::Relaxed);
        let next = mean - mean / MEMORY + nanoseconds(took) / MEMORY;
        self.0.mean.store(next, Ordering::Relaxed);
    }
}

impl RunPermit {
    /// Tells how long a job ran.
    pub(super) fn ran(&self, took: Duration) {
        self.prefetch.remember(took);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(jobs: usize, took: Duration) -> Prefetch {
        let prefetch = Prefetch::new(50, &Arc::new(Semaphore::new(50)));
        (0..jobs).for_each(|_| prefetch.remember(took));
        prefetch
    }

    #[test]
    fn nothing_is_claimed_ahead_before_jobs_have_shown_to_be_short() {
        assert_eq!(after(0, Duration::ZERO).ahead(), 0);
        assert_eq!(after(1_000, Duration::from_millis(20)).ahead(), 0);
    }

    #[test]
    fn the_shorter_the_jobs_the_further_the_claim() {
        assert_eq!(after(1_000, Duration::from_micros(300)).ahead(), 150);
        assert_eq!(after(1_000, Duration::from_micros(1)).ahead(), FURTHEST);
    }

    #[test]
    fn one_slow_job_among_short_ones_ends_it() {
        let prefetch = after(1_000, Duration::from_micros(1));
        prefetch.remember(Duration::from_millis(20));
        assert_eq!(prefetch.ahead(), 0);
    }

    #[tokio::test]
    async fn nothing_is_claimed_ahead_while_every_permit_is_taken() {
        let prefetch = after(1_000, Duration::from_micros(1));
        let mut permits = Vec::new();
        for _ in 0..50 {
            permits.push(prefetch.permit_now());
        }
        assert_eq!(prefetch.ahead(), 0);
        permits.pop();
        assert_eq!(prefetch.ahead(), FURTHEST);
    }

    #[tokio::test]
    async fn who_finds_no_permit_soon_is_told_so_and_nothing_more_is_claimed_ahead() {
        let process = Arc::new(Semaphore::new(1));
        let prefetch = Prefetch::new(1, &process);
        (0..1_000).for_each(|_| prefetch.remember(Duration::from_micros(1)));
        let permit = prefetch.permit_now();
        let late = prefetch.clone().permit_soon(Instant::now());
        assert!(late.await.is_none());
        std::mem::forget(permit);
        process.add_permits(1);
        prefetch.0.queue.add_permits(1);
        assert_eq!(prefetch.ahead(), 0);
    }
}
