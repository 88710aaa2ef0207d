//! How many jobs a process holds and runs.
//!
//! A slot is held from the claim until the end of its job is stored: one total for the process, and a
//! bound per queue, both exceeded by what is claimed ahead ([`Prefetch`]).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::prefetch::Prefetch;

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
