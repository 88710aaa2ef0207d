//! Wakes idle workers after a commit.
//!
//! A NOTIFY inside the inserting transaction makes every such commit of the cluster wait for the one
//! before (26 600 → 7 800 inserts/s, measured), so it is sent from another connection, only when
//! one is idle. It only shortens the wait: polling finds every job.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobs::contract::in_time;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connect::Pooler;
use super::idle;

/// The shortest time between two wake-ups of a queue from a process that is busy writing jobs for it. The
/// worker that was woken looks again by itself meanwhile.
const INTERVAL: Duration = Duration::from_millis(50);
/// One notification.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A process is busy if it wrote so many jobs for a queue within an interval. Single jobs are notified at
/// once.
const BUSY: usize = 10;

/// Tells sleeping workers of queues that got jobs. Cheap to clone; the last clone ends it.
#[derive(Clone, Debug)]
pub struct Notifier {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    requests: Arc<Requests>,
    sender: JoinHandle<()>,
}

/// What was asked for, and when last.
#[derive(Debug, Default)]
struct Requests {
    queues: Mutex<BTreeMap<&'static str, Queue>>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    wanted: bool,
    last_sent: Option<Instant>,
    /// The last [`BUSY`] requests.
    requests: VecDeque<Instant>,
    /// Whether they came within an interval when the last one came.
    busy: bool,
}

impl Queue {
    fn request(&mut self, now: Instant) {
        self.wanted = true;
        self.requests.push_back(now);
        if self.requests.len() > BUSY {
            self.requests.pop_front();
        }
        self.busy = self.requests.len() == BUSY && now.duration_since(self.requests[0]) < INTERVAL;
    }

    /// When a wake-up that is wanted may be sent.
    fn due(&self, now: Instant) -> Option<Instant> {
        let last = self.last_sent.filter(|_| self.busy);
        self.wanted
            .then(|| last.map_or(now, |sent| sent + INTERVAL))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

impl Notifier {
    /// Sends on a connection of `pool`; a mute one behind a transaction-mode pooler.
    #[must_use]
    pub fn new(pool: PgPool, pooler: Pooler) -> Self {
        if pooler == Pooler::Transaction {
            return Self { shared: None };
        }
        let requests = Arc::new(Requests::default());
        let sender = tokio::spawn(send_for_ever(pool, Arc::clone(&requests)));
        Self {
            shared: Some(Arc::new(Shared { requests, sender })),
        }
    }

    /// Says that `queue` got jobs, after their commit. Never waits.
    pub fn notify(&self, queue: &'static str) {
        if let Some(shared) = &self.shared {
            let requests = &shared.requests;
            requests
                .lock()
                .entry(queue)
                .or_default()
                .request(Instant::now());
            requests.arrived.notify_one();
        }
    }
}

impl Requests {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues to wake now, and when to look again.
    fn take(&self, now: Instant) -> (Vec<&'static str>, Option<Instant>) {
        let (mut send, mut next) = (Vec::new(), None::<Instant>);
        for (name, queue) in self.lock().iter_mut() {
            match queue.due(now) {
                Some(due) if due <= now => {
                    (queue.wanted, queue.last_sent) = (false, Some(now));
                    send.push(*name);
                }
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        (send, next)
    }
}

async fn send_for_ever(pool: PgPool, requests: Arc<Requests>) {
    loop {
        let (queues, next) = requests.take(Instant::now());
        if queues.is_empty() {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => requests.arrived.notified().await,
            }
        }
        for queue in queues {
            if let Err(error) = in_time(SEND_TIMEOUT, idle::wake_now(&pool, queue)).await {
                tracing::debug!(%error, "notifications unavailable, workers poll");
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The milliseconds at which wake-ups are sent for jobs that come at these milliseconds.
    fn sent(requests: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let known = Requests::default();
        let mut sent = Vec::new();
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            for _ in requests.iter().filter(|at| **at == millisecond) {
                known.lock().entry("default").or_default().request(now);
            }
            if !known.take(now).0.is_empty() {
                sent.push(millisecond);
            }
        }
        sent
    }

    #[test]
    fn single_jobs_are_told_of_at_once() {
        assert_eq!(sent(&[10, 30, 37, 500]), [10, 30, 37, 500]);
    }

    #[test]
    fn a_stream_is_told_of_at_most_every_fifty_milliseconds_and_its_last_job_too() {
        let stream: Vec<u64> = (100..=213).collect();
        let sent = sent(&stream);
        let first = (100..109).collect::<Vec<u64>>();
        assert_eq!(sent[..9], first, "not busy yet");
        assert_eq!(sent[9..], [158, 208, 258]);
    }
}
