//! Transactions that survive being dropped half-way into being, and answers that are not waited for without end.

use std::io;
use std::time::Duration;

use sqlx::{Connection, PgPool, Postgres, SqlSafeStr, Transaction};
use tokio::time::timeout;

/// What a transaction of ours begins with, whatever the defaults of the database and the role are, and also behind a
/// pooler, where no session is ours to set anything in. A statement that waited for a row sees what was committed
/// meanwhile, and Postgres ends what a process leaves open that vanished or stands still: what it holds must not hold up
/// the others longer than its lease.
pub const BEGIN: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// How long the database may take to begin one.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Begins a transaction on a connection of the pool, for callers that may be dropped.
///
/// sqlx 0.9 counts a transaction only after the answer to BEGIN. Where the future is dropped in
/// between (a deadline, a caller that hung up), nobody rolls back: the connection goes back to the
/// pool with the transaction open, and what others write on it afterwards is not committed. So BEGIN
/// is sent from a task of its own, which always hears the answer; a transaction that nobody takes is
/// rolled back. The wait for a connection stays with the caller and ends with it.
///
/// # Errors
/// If the database cannot be reached.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let connection = pool.acquire().await?;
    // Inside a transaction already, as where a replay is tried out, it is a savepoint.
    let statement = (!connection.is_in_transaction()).then(|| BEGIN.into_sql_str());
    let begun = in_time(BEGIN_TIMEOUT, Transaction::begin(connection, statement));
    tokio::spawn(begun)
        .await
        .map_err(|_| sqlx::Error::WorkerCrashed)?
}

/// Waits no longer than `limit` for the database: what takes longer has lost its connection without knowing it.
///
/// # Errors
/// Those of `work`; where the time is over, one of the connection.
pub async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let reason = format!(
            "the database gave no answer within {} s",
            limit.as_secs_f64()
        );
        Err(io::Error::new(io::ErrorKind::TimedOut, reason).into())
    })
}
