//! How many short jobs a queue claims beyond its slots, and the seats in which jobs run.
//!
//! A commit costs the same for one job as for five hundred. Where jobs take less than a millisecond,
//! fifty slots are empty long before the next commit, so the lanes claim ahead: as many jobs as the
//! slots finish within a moment. Never more jobs run at once than there are slots, and a job that was
//! claimed ahead and finds no seat soon is handed back, because those before it turned out slow and
//! another worker may be free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Jobs are claimed for so long ahead.
const AHEAD: Duration = Duration::from_millis(1);
/// Most jobs that are claimed ahead: two full claims, one for each lane.
const FURTHEST: usize = 1000;
/// How long a job that was claimed ahead waits for a seat.
const PATIENCE: Duration = Duration::from_millis(100);
/// One job's weight in the mean is one in so many.
const MEMORY: u64 = 16;

/// The reach of one queue; see the module.
#[derive(Clone, Debug)]
pub(super) struct Reach(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: usize,
    queue: Arc<Semaphore>,
    process: Arc<Semaphore>,
    /// Nanoseconds that a job of this queue took of late.
    mean: AtomicU64,
}

/// The right to run. Dropping it makes room and tells how long it took.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Instant,
    reach: Reach,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Reach {
    /// For a queue that may run `slots` jobs at once, in a process with so many seats. At first no
    /// job is known to be short.
    pub(super) fn new(slots: usize, process: &Arc<Semaphore>) -> Self {
        Self(Arc::new(Inner {
            slots,
            queue: Arc::new(Semaphore::new(slots)),
            process: Arc::clone(process),
            mean: AtomicU64::new(nanoseconds(AHEAD)),
        }))
    }

    /// How many jobs may be claimed beyond the slots now: none while every seat is taken.
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

    /// A seat, or `None` where none came free in time: then jobs are not as short as they were.
    pub(super) async fn seat(&self) -> Option<Seat> {
        let permits = match self.free_now() {
            Some(permits) => Some(permits),
            None => tokio::time::timeout(PATIENCE, self.free_soon())
                .await
                .unwrap_or(None),
        };
        if permits.is_none() {
            self.0.mean.store(nanoseconds(AHEAD), Ordering::Relaxed);
        }
        Some(Seat {
            taken: Instant::now(),
            reach: self.clone(),
            _permits: permits?,
        })
    }

    fn free_now(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let queue = Arc::clone(&self.0.queue).try_acquire_owned().ok()?;
        let process = Arc::clone(&self.0.process).try_acquire_owned().ok()?;
        Some([queue, process])
    }

    async fn free_soon(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let queue = Arc::clone(&self.0.queue).acquire_owned().await.ok()?;
        let process = Arc::clone(&self.0.process).acquire_owned().await.ok()?;
        Some([queue, process])
    }

    /// Two jobs that end at once may lose one of their entries, which no mean minds.
    fn remember(&self, took: Duration) {
        let mean = self.0.mean.load(Ordering::Relaxed);
        let next = mean - mean / MEMORY + nanoseconds(took) / MEMORY;
        self.0.mean.store(next, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.reach.remember(self.taken.elapsed());
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(jobs: usize, took: Duration) -> Reach {
        let reach = Reach::new(50, &Arc::new(Semaphore::new(50)));
        (0..jobs).for_each(|_| reach.remember(took));
        reach
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
        let reach = after(1_000, Duration::from_micros(1));
        reach.remember(Duration::from_millis(20));
        assert_eq!(reach.ahead(), 0);
    }

    #[tokio::test]
    async fn nothing_is_claimed_ahead_while_every_seat_is_taken() {
        let reach = after(1_000, Duration::from_micros(1));
        let mut seats = Vec::new();
        for _ in 0..50 {
            seats.push(reach.seat().await);
        }
        assert_eq!(reach.ahead(), 0);
        seats.pop();
        assert_eq!(reach.ahead(), FURTHEST);
    }

    #[tokio::test]
    async fn who_finds_no_seat_soon_is_told_so_and_nothing_more_is_claimed_ahead() {
        let process = Arc::new(Semaphore::new(1));
        let reach = Reach::new(1, &process);
        (0..1_000).for_each(|_| reach.remember(Duration::from_micros(1)));
        let seat = reach.seat().await;
        assert!(reach.seat().await.is_none());
        std::mem::forget(seat);
        process.add_permits(1);
        reach.0.queue.add_permits(1);
        assert_eq!(reach.ahead(), 0);
    }
}
