//! How many jobs a process holds and runs.
//!
//! A slot is held from the claim until the end of its job is stored: one total for the process, and a
//! bound per queue. A commit costs the same for one job as for a thousand, and where jobs take less
//! than a millisecond, fifty slots are empty long before the next commit; so fetchers claim ahead, as
//! many jobs as the slots finish within a moment ([`Prefetch`]). Never more jobs run at once than there
//! are slots: a job that was claimed ahead and gets no permit to run soon is released, because those
//! before it turned out slow and another worker may be free.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The process's slots.
#[derive(Debug)]
pub(super) struct Total {
    slots: usize,
    used: Mutex<usize>,
    freed: Arc<Notify>,
    queues: AtomicUsize,
    /// Queues that look for a slot and find none.
    wanting: AtomicUsize,
    /// How often slots were taken. A slot is taken before its job is claimed.
    takes: AtomicU64,
}

/// The slots of one queue.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    total: Arc<Total>,
    bound: usize,
    prefetch: Prefetch,
    used: Arc<Mutex<usize>>,
    wants: Arc<AtomicBool>,
}

impl Total {
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            slots,
            used: Mutex::default(),
            freed: Arc::default(),
            queues: AtomicUsize::new(0),
            wanting: AtomicUsize::new(0),
            takes: AtomicU64::new(0),
        })
    }

    /// While no slot is in use, how often slots were taken so far: where it is the same later on, nothing
    /// was claimed in between.
    pub(super) fn takes_if_unused(&self) -> Option<u64> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        (*used == 0).then(|| self.takes.load(Ordering::Acquire))
    }
}

impl Slots {
    pub(super) fn new(total: &Arc<Total>, bound: usize, prefetch: Prefetch) -> Self {
        total.queues.fetch_add(1, Ordering::Relaxed);
        Self {
            total: Arc::clone(total),
            bound,
            prefetch,
            used: Arc::default(),
            wants: Arc::default(),
        }
    }

    /// Says whether this queue looks for a slot and finds none.
    pub(super) fn want(&self, wants: bool) {
        if self.wants.swap(wants, Ordering::AcqRel) == wants {
            return;
        }
        if wants {
            self.total.wanting.fetch_add(1, Ordering::AcqRel);
        } else {
            self.total.wanting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// How many jobs this queue may hold, and how many of them beyond the slots. While another queue
    /// finds no slot, a queue has no more than its share: a backlog of one must not keep another
    /// waiting until it is done.
    fn allowed(&self) -> (usize, usize) {
        let others = usize::from(self.wants.load(Ordering::Acquire))
            < self.total.wanting.load(Ordering::Acquire);
        if !others {
            let ahead = self.prefetch.ahead();
            return (self.bound + ahead, ahead);
        }
        let queues = self.total.queues.load(Ordering::Relaxed).max(1);
        (self.bound.min((self.total.slots / queues).max(1)), 0)
    }

    /// How many of `ended` slots may be used again without being given back first.
    pub(super) fn keepable(&self, ended: usize) -> usize {
        let (allowed, _) = self.allowed();
        let surplus = self.used().saturating_sub(allowed);
        ended.saturating_sub(surplus)
    }

    /// Takes whatever is free, at most `most`.
    pub(super) fn take(&self, most: usize) -> usize {
        let (allowed, ahead) = self.allowed();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = self
            .total
            .used
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let free = (self.total.slots + ahead).saturating_sub(*total);
        let taken = most.min(allowed.saturating_sub(*used)).min(free);
        *used += taken;
        *total += taken;
        if taken > 0 {
            self.total.takes.fetch_add(1, Ordering::AcqRel);
        }
        taken
    }

    /// Gives slots back and tells a fetcher that waits for one.
    pub(super) fn give(&self, slots: usize) {
        if slots == 0 {
            return;
        }
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) -= slots;
        *self
            .total
            .used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) -= slots;
        self.total.freed.notify_waiters();
    }

    /// The queue's bound.
    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    /// Slots of this queue that are held now.
    pub(super) fn used(&self) -> usize {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once some slot of the process was given back after this call.
    pub(super) fn freed_since_now(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.total.freed).notified_owned()
    }
}

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

    /// Two jobs that end at once may lose one of their entries, which no mean minds.
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
