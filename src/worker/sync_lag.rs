//! Sync lag: from the moment a change or a delivery came in until what it asks for holds at Polar and in our tables.
//!
//! A job knows its events but not when they came in. They are looked up together every few seconds, so that no job
//! waits for a measurement.

use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jobs::mirror::events;
use metrics::histogram;
use sqlx::PgPool;

/// Ends kept between two measurements; more are not measured.
const MAX_ENDS: usize = 10_000;

/// Ends of jobs that are not measured yet.
#[derive(Default)]
pub(super) struct SyncLag(Mutex<Vec<SyncEnd>>);

/// What an event asks for holds since then, as far as one job is about it.
struct SyncEnd {
    kind: &'static str,
    event: i64,
    at: Instant,
}

impl SyncLag {
    /// A job of this kind was applied, and with it what its events ask for.
    pub(super) fn applied(&self, kind: &'static str, events: &[i64]) {
        let mut ends = self.ends();
        let room = MAX_ENDS.saturating_sub(ends.len());
        let at = Instant::now();
        let applied = events.iter().take(room);
        ends.extend(applied.map(|&event| SyncEnd { kind, event, at }));
    }

    /// Measures what was applied since the last time.
    ///
    /// # Errors
    /// If the database fails; what was applied until then is not measured.
    pub(super) async fn measure(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let ends = take(&mut *self.ends());
        if ends.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = ends.iter().map(|end| end.event).collect();
        let ages = events::ages(pool, &ids).await?;
        for end in ends {
            if let Some(age) = ages.get(&end.event) {
                let lag = (age - end.at.elapsed().as_secs_f64()).max(0.0);
                histogram!("polar_jobs_sync_lag_seconds", "kind" => end.kind).record(lag);
            }
        }
        Ok(())
    }

    fn ends(&self) -> MutexGuard<'_, Vec<SyncEnd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
