//! A writer of deliveries: takes all that waits, stores it in one statement, tells everybody.

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::WriterConnection;
use super::single::SingleWriter;
use super::store::store_deliveries;
use super::{Accepted, DEADLINE, LONGEST_WAIT, Unavailable, WaitingDelivery};
use crate::ingress::row::Row;
use crate::sqlstate::{is_refusal, is_statement_timeout};

/// Deliveries per statement: a group of 2 KiB bodies stays well below a MiB.
const GROUP: usize = 256;
/// And no group's bodies are larger than this together.
const GROUP_BYTES: usize = 8 << 20;
const TOO_SLOW: &str = "the database is too slow";

/// Runs until every sender is gone and everything that waited is answered.
pub(super) async fn run(
    mut connection: WriterConnection,
    single: SingleWriter,
    mut arrivals: mpsc::Receiver<WaitingDelivery>,
) {
    let mut group = Vec::with_capacity(GROUP);
    loop {
        if arrivals.recv_many(&mut group, GROUP).await == 0 {
            return;
        }
        for part in parts(group.drain(..)) {
            write(&mut connection, &single, part).await;
        }
    }
}

/// The group, cut where its bodies grow too large for one statement.
fn parts(group: impl Iterator<Item = WaitingDelivery>) -> Vec<Vec<WaitingDelivery>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for waiting in group {
        bytes += waiting.delivery.size();
        if bytes > GROUP_BYTES {
            bytes = waiting.delivery.size();
            parts.push(Vec::new());
        }
        parts
            .last_mut()
            .expect("there is always a last part")
            .push(waiting);
    }
    parts
}

async fn write(
    connection: &mut WriterConnection,
    single: &SingleWriter,
    group: Vec<WaitingDelivery>,
) {
    let (group, late): (Vec<_>, Vec<_>) = group
        .into_iter()
        .partition(|one| one.since.elapsed() < LONGEST_WAIT);
    late.into_iter()
        .for_each(|one| one.tell(Err(Unavailable::TooSlow)));
    if group.is_empty() {
        return;
    }
    match attempt(connection, single, &group).await {
        Ok(stored) => reply_to_group(group, stored),
        Err(Failure::Unavailable(reason)) => {
            group.into_iter().for_each(|one| one.tell(Err(reason)))
        }
        // Something in the group cannot be stored: each is stored in a transaction of its own, so that only that one suffers.
        Err(Failure::Refused(error)) => {
            tracing::debug!(%error, deliveries = group.len(), "a group was refused; each delivery is stored by itself");
            group.into_iter().for_each(|one| single.deliver(one));
        }
    }
}

/// Why a group was not stored.
enum Failure {
    /// The database is not there, or too slow.
    Unavailable(Unavailable),
    /// The database is there and says no.
    Refused(sqlx::Error),
}

/// Stores the group. A connection that turns out to be dead is replaced once: to store a group a
/// second time is harmless, because what the first try stored is then a duplicate.
async fn attempt(
    connection: &mut WriterConnection,
    single: &SingleWriter,
    group: &[WaitingDelivery],
) -> Result<Vec<bool>, Failure> {
    for last in [false, true] {
        match timeout(DEADLINE, store_group(connection, single, group)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) if is_statement_timeout(&error) => {
                tracing::warn!(
                    deliveries = group.len(),
                    "deliveries were not stored: {TOO_SLOW}"
                );
                return Err(Failure::Unavailable(Unavailable::TooSlow));
            }
            Ok(Err(error)) if is_refusal(&error) => return Err(Failure::Refused(error)),
            Ok(Err(error)) => {
                connection.give_up();
                if last {
                    tracing::warn!(%error, deliveries = group.len(), "deliveries were not stored");
                }
            }
            Err(_) => {
                connection.give_up();
                tracing::warn!(
                    deliveries = group.len(),
                    "deliveries were not stored: {TOO_SLOW}"
                );
                return Err(Failure::Unavailable(Unavailable::TooSlow));
            }
        }
    }
    Err(Failure::Unavailable(Unavailable::Unreachable))
}

async fn store_group(
    connection: &mut WriterConnection,
    single: &SingleWriter,
    group: &[WaitingDelivery],
) -> Result<Vec<bool>, sqlx::Error> {
    let open = connection.ready().await?;
    let rows: Vec<Row<'_>> = group.iter().map(|one| one.delivery.row()).collect();
    let stored = store_deliveries(open, &rows).await?;
    single.notify_for(&rows);
    Ok(stored)
}

fn reply_to_group(group: Vec<WaitingDelivery>, stored: Vec<bool>) {
    for (one, stored) in group.into_iter().zip(stored) {
        one.tell(Ok(if stored {
            Accepted::Stored
        } else {
            Accepted::Duplicate
        }));
    }
}
