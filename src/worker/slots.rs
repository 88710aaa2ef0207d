//! How many jobs may run at once: one total for the process, and a bound per queue.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The process's slots.
#[derive(Debug)]
pub(super) struct Total {
    free: Mutex<usize>,
    freed: Arc<Notify>,
}

/// The slots of one queue.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    total: Arc<Total>,
    bound: usize,
    used: Arc<Mutex<usize>>,
}

impl Total {
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(slots),
            freed: Arc::default(),
        })
    }
}

impl Slots {
    pub(super) fn new(total: &Arc<Total>, bound: usize) -> Self {
        Self {
            total: Arc::clone(total),
            bound,
            used: Arc::default(),
        }
    }

    /// Takes whatever is free, at most `most`.
    pub(super) fn take(&self, most: usize) -> usize {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .total
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let taken = most.min(self.bound.saturating_sub(*used)).min(*free);
        *used += taken;
        *free -= taken;
        taken
    }

    /// Gives slots back and tells a lane that waits for one.
    pub(super) fn give(&self, slots: usize) {
        if slots == 0 {
            return;
        }
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) -= slots;
        *self
            .total
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += slots;
        self.total.freed.notify_waiters();
    }

    /// Slots of this queue that are held now.
    pub(super) fn used(&self) -> usize {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once some slot of the process was given back after this call.
    pub(super) fn freed_since_now(&self) -> impl Future<Output = ()> + Send + 'static {
        let freed = Arc::clone(&self.total.freed).notified_owned();
        async move { freed.await }
    }
}
