//! Databases on a server: `dev` wants one of its own name, and it may be there already.

use super::error::Error;
use sqlx::{Connection, PgConnection};

/// Creates a database where it is missing. `maintenance` is the URL of a database that exists, such as `postgres`;
/// two callers at once both succeed.
///
/// # Errors
/// [`Error::Sql`] when the server refuses.
pub async fn ensure_database(maintenance: &str, name: &str) -> Result<(), Error> {
    let failed = |source| Error::Sql {
        action: format!("create database {name}"),
        source,
    };
    let mut connection = PgConnection::connect(maintenance).await.map_err(failed)?;
    let statement = format!("create database {}", quoted(name));
    let outcome = sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await;
    let there_already = |error: &sqlx::Error| {
        let code = error.as_database_error().and_then(|error| error.code());
        // duplicate_database, or the same noticed one step later by the second of two callers.
        matches!(code.as_deref(), Some("42P04" | "23505"))
    };
    match outcome {
        Err(error) if !there_already(&error) => Err(failed(error)),
        _ => connection.close().await.map_err(failed),
    }
}

/// An identifier as SQL text.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
