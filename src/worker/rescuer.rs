//! Looks after the others: buries dead workers, releases noted keys, sweeps. Every process does it;
//! the statements are such that two at once change nothing twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, PgConnection};

use crate::queue::connect::QueueDatabase;
use crate::queue::rescue;

use super::keeper::Bed;
use super::patience::Patience;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long a suspect has to take its lock again. A living process reconnects within its patience of
/// two seconds, also when its connection was cut or all of Postgres crashed; counted anew whenever
/// our own connection was, for what cut ours may have cut theirs.
const SUSPICION: Duration = Duration::from_secs(3);
/// Looks between two sweeps of the whole live table; the first comes half of that after the start.
const LOOKS_PER_SWEEP: u32 = 60;

/// See the module. Runs until it is dropped.
pub(super) async fn run(database: QueueDatabase, worker: i64, beds: HashMap<String, Arc<Bed>>) {
    let mut patience = Patience::default();
    loop {
        let error = match watch(&database, worker, &beds).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        tracing::debug!(%error, "the rescuer does not reach the database, trying again");
        patience.wait().await;
    }
}

async fn watch(
    database: &QueueDatabase,
    worker: i64,
    beds: &HashMap<String, Arc<Bed>>,
) -> Result<std::convert::Infallible, sqlx::Error> {
    let mut connection = database
        .plain()
        .application_name("polar-jobs rescue")
        .connect()
        .await?;
    let mut looks = 0_u32;
    let mut suspected = HashMap::new();
    loop {
        let mut returned = bury_the_dead(&mut connection, worker, &mut suspected).await?;
        if looks.is_multiple_of(2) {
            returned |= rescue::release_noted_keys(&mut connection).await? > 0;
        }
        if looks % LOOKS_PER_SWEEP == LOOKS_PER_SWEEP / 2 {
            returned |= rescue::sweep(&mut connection).await?.returned > 0;
        }
        if returned {
            beds.values().for_each(|bed| bed.wake());
        }
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK).await;
    }
}

async fn bury_the_dead(
    connection: &mut PgConnection,
    worker: i64,
    suspected: &mut HashMap<i64, Instant>,
) -> Result<bool, sqlx::Error> {
    let suspects = rescue::suspects(connection, worker).await?;
    suspected.retain(|suspect, _| suspects.contains(suspect));
    let mut returned = false;
    for dead in suspects {
        let since = *suspected.entry(dead).or_insert_with(Instant::now);
        if since.elapsed() < SUSPICION {
            continue;
        }
        let rescued = rescue::bury(connection, dead).await?;
        if rescued.workers > 0 {
            tracing::warn!(
                worker = dead,
                returned = rescued.returned,
                discarded = rescued.discarded,
                "a worker died, its jobs were taken back"
            );
        }
        returned |= rescued.returned > 0;
    }
    Ok(returned)
}
