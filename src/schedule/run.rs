//! The loop around the clock, one per worker process.
//!
//! The time is the database's: workers whose clocks disagree still see one and the same tick. The
//! loop never waits longer than a second, so a schedule that an operator brought forward or resumed is seen
//! at once, and an outage ends with the outage.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use jobs::contract::in_time;
use sqlx::PgPool;

use super::{Declared, Timetable, declare, tick};

/// Between two looks.
const POLL: Duration = Duration::from_secs(1);
/// Between two declarations: what somebody changed in the rows is right again within a minute.
const DECLARE_INTERVAL: Duration = Duration::from_secs(30);
/// Beyond this the database counts as failing; the transaction is rolled back.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Declares the schedules and writes the jobs of their ticks until `shutdown` resolves.
/// Survives every failure of the database; a failure is logged once, and so is its end.
pub async fn run(pool: PgPool, timetable: Timetable, shutdown: impl Future<Output = ()> + Send) {
    tokio::select! {
        // Dropped in the middle of a transaction, that transaction is rolled back.
        () = shutdown => {}
        () = tick_for_ever(&pool, &timetable) => {}
    }
}

async fn tick_for_ever(pool: &PgPool, timetable: &Timetable) {
    let mut declaration = Declaration::default();
    let mut failing = false;
    loop {
        let wait = match look(pool, timetable, &mut declaration).await {
            Ok(wait) => {
                if failing {
                    tracing::info!("the schedules tick again");
                }
                failing = false;
                wait
            }
            Err(error) => {
                if !failing {
                    tracing::error!(%error, "the schedules do not tick; trying again every second");
                }
                failing = true;
                POLL
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// When this release last declared its schedules, and with what success.
#[derive(Default)]
struct Declaration {
    last: Option<(Instant, Declared)>,
}

impl Declaration {
    /// Declares again where it is time to.
    async fn repeat(
        &mut self,
        pool: &PgPool,
        timetable: &Timetable,
        now: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        if self
            .last
            .is_some_and(|(at, _)| at.elapsed() < DECLARE_INTERVAL)
        {
            return Ok(());
        }
        let declared = declare(pool, timetable, now).await?;
        let before = self.last.replace((Instant::now(), declared));
        if declared == Declared::Outdated
            && before.is_none_or(|(_, before)| before == Declared::Newest)
        {
            tracing::warn!("a newer release runs here; its schedules and kinds hold");
        }
        Ok(())
    }
}

/// One look at the clock. Returns how long to wait for the next one.
async fn look(
    pool: &PgPool,
    timetable: &Timetable,
    declaration: &mut Declaration,
) -> Result<Duration, sqlx::Error> {
    in_time(LOOK_TIMEOUT, async {
        let now = database_time(pool).await?;
        // Before the declaration, so that a row which somebody holds, and which it has to write, stops no other.
        let ticked = tick(pool, timetable, now).await;
        declaration.repeat(pool, timetable, now).await?;
        Ok(ticked?.next.map_or(POLL, |next| wait_until(now, next)))
    })
    .await
}

/// Never so short that a tick of another release, which is not ours to write, keeps us spinning.
fn wait_until(now: DateTime<Utc>, next: DateTime<Utc>) -> Duration {
    (next - now)
        .to_std()
        .unwrap_or(POLL)
        .clamp(Duration::from_millis(10), POLL)
}

async fn database_time(pool: &PgPool) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#)
        .fetch_one(pool)
        .await
}
