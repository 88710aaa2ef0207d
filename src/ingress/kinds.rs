//! The rows of the jobs that the front door starts, by kind and key.

use jobs::contract::Queue;
use jobs::{ApplyBenefits, ApplyChange, NewJob, SyncSubscription};
use serde::Serialize;

pub(super) fn apply_change(event: i64, ordering_key: Option<String>) -> NewJob {
    NewJob {
        ordering_key,
        ..plain("apply_change", &ApplyChange { event })
    }
}

pub(super) fn apply_benefits(event: i64, about: &polar::Peek) -> NewJob {
    let job = ApplyBenefits::for_delivery(event, about);
    NewJob {
        unique_key: job
            .customer_id
            .map(|customer| format!("apply_benefits/{customer}")),
        ordering_key: job
            .customer_id
            .map(|customer| format!("benefits/{customer}")),
        ..plain("apply_benefits", &job)
    }
}

pub(super) fn sync_subscription(event: i64, about: &polar::Peek) -> NewJob {
    plain(
        "sync_subscription",
        &SyncSubscription::for_delivery(event, about),
    )
}

fn plain(kind: &'static str, job: &impl Serialize) -> NewJob {
    NewJob {
        kind,
        payload: serde_json::to_value(job).expect("a job's payload is plain data and serializes"),
        queue: Queue::Default,
        priority: jobs::contract::priority::ENTITLEMENT,
        run_at: None,
        unique_key: None,
        ordering_key: None,
        max_attempts: jobs::contract::Retry::DEFAULT.attempts,
        debounce: None,
        event: None,
    }
}
