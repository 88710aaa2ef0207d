//! The job that does nothing, so that only the queue is measured.

use jobs::contract::Retry;
use jobs::{Context, Done, Error, Job, NewJob};
use serde::{Deserialize, Serialize};

/// Two hundred bytes of payload and no work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Noop {
    n: u64,
    pad: String,
}

impl Noop {
    /// Number `n`.
    #[must_use]
    pub fn new(n: u64) -> Self {
        Self {
            n,
            pad: "x".repeat(180),
        }
    }

    /// Its row.
    #[must_use]
    pub fn row(n: u64) -> NewJob {
        NewJob::of(&Self::new(n))
    }

    /// Its row with a unique and an ordering key of its own, as most jobs of the product have one.
    #[must_use]
    pub fn keyed(n: u64) -> NewJob {
        let key = format!("{}/{n}", Self::KIND);
        NewJob {
            unique_key: Some(key.clone()),
            ordering_key: Some(key),
            ..Self::row(n)
        }
    }
}

impl Job for Noop {
    const KIND: &'static str = "bench_noop";
    const RETRY: Retry = Retry::DEFAULT;

    async fn run(self, _: &Context) -> Result<Done, Error> {
        Ok(Done::applied())
    }
}
