//! What a pooler between us and Postgres must allow; a refusal names the setting that fixes it.
//!
//! A transaction-mode pooler gives every transaction another server connection. One that does not
//! carry prepared statements along answers with somebody else's statement or with none, now and
//! then, under load. That is found out at the start.

use sqlx::{AssertSqlSafe, ConnectOptions};
use uuid::Uuid;

use super::Failure;
use crate::config::DatabaseUrl;
use crate::queue::connect::Pooler;
use crate::sqlstate::is_statement_of_others;

const UNDECLARED: &str = "a pooler is in between that no setting mentions: set DATABASE_POOLER=transaction, or let it \
                        ignore that parameter if it keeps sessions";
const MIXES_UP: &str = "the pooler mixes up prepared statements: PgBouncer must be 1.21 or newer with \
                        max_prepared_statements above 0; or let DATABASE_URL lead to Postgres itself";

/// What a refusal means where it is the pooler's doing.
pub(super) fn advice(error: &sqlx::Error) -> Option<&'static str> {
    let refusal = error.as_database_error()?;
    if refusal.message().contains("unsupported startup parameter") {
        return Some(UNDECLARED);
    }
    is_statement_of_others(error).then_some(MIXES_UP)
}

/// Fails where a pooler certainly loses prepared statements; a database that does not answer is for
/// others to report.
pub(super) async fn prove(database: &DatabaseUrl) -> Result<(), Failure> {
    let mixed_up = match database.pooler() {
        Pooler::None => false,
        Pooler::Transaction => match statements_leak(database).await {
            Ok(leak) => leak,
            Err(error) => advice(&error) == Some(MIXES_UP),
        },
    };
    if mixed_up {
        return Err(Failure::failed(format!(
            "{database} (DATABASE_URL): {MIXES_UP}"
        )));
    }
    Ok(())
}

/// Whether one client's prepared statement lies, under the client's name for it, in a session that
/// another client is given.
async fn statements_leak(database: &DatabaseUrl) -> Result<bool, sqlx::Error> {
    let (mut one, mut other) = (
        database.options().connect().await?,
        database.options().connect().await?,
    );
    let mark = Uuid::new_v4();
    let marked = format!("SELECT '{mark}'");
    sqlx::query(AssertSqlSafe(marked)).execute(&mut one).await?;
    let look = format!(
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_prepared_statements
              WHERE statement LIKE '%{mark}%' AND name LIKE 'sqlx%')
         THEN RAISE duplicate_prepared_statement; END IF; END $$"
    );
    // The simple protocol prepares nothing itself.
    match sqlx::raw_sql(AssertSqlSafe(look)).execute(&mut other).await {
        Err(error) if advice(&error) == Some(MIXES_UP) => Ok(true),
        looked => looked.map(|_| false),
    }
}
