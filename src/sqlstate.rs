//! What an error of the database means, read from its SQLSTATE in one place: whether the statement is at fault,
//! somebody in the way, or the connection. <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::borrow::Cow;

/// Returns the SQLSTATE; `None` where Postgres did not answer.
pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

fn is_of(error: &sqlx::Error, classes: &[&str]) -> bool {
    sqlstate(error).is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
}

/// Whether a value itself is the reason, so that the same again can never go in: a data exception (22), a
/// broken constraint (23), or a limit of the program (54).
pub(crate) fn is_unstorable(error: &sqlx::Error) -> bool {
    is_of(error, &["22", "23", "54"])
}

/// Whether the statement is at fault and not the moment: an unstorable value, or a name or right that is missing
/// (42).
pub(crate) fn is_statement_at_fault(error: &sqlx::Error) -> bool {
    is_unstorable(error) || is_of(error, &["42"])
}

/// Whether Postgres understood and refused, which concerns what was sent; all else concerns the connection or the
/// server: a shutdown (57P), no room (53, 58), a lost connection (08), a standby (25006), and whatever has no
/// SQLSTATE at all.
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => !is_of(error, &["57P", "53", "08", "25006", "58"]),
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

/// Whether a lock was not free in time (`lock_timeout`).
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    is_of(error, &["55P03"])
}

/// Whether Postgres rolled the transaction back for the sake of another (40): of two that wait for each other one has
/// to give way. The same again goes through.
pub(crate) fn is_rolled_back_for_another(error: &sqlx::Error) -> bool {
    is_of(error, &["40"])
}

/// Whether `polar_jobs.lock_changed` raised it: an open transaction of the application changed the same subject.
/// The message names both, for the caller.
pub(crate) fn is_held_by_application(error: &sqlx::Error) -> bool {
    is_of(error, &["PJ001"])
}

/// Whether another transaction holds what this one needs.
pub(crate) fn is_held(error: &sqlx::Error) -> bool {
    is_held_by_application(error) || is_lock_timeout(error)
}

/// Whether Postgres gave up on the whole statement (`statement_timeout`).
pub(crate) fn is_statement_timeout(error: &sqlx::Error) -> bool {
    is_of(error, &["57014"])
}

/// Whether the schema is missing, or a table, column or function of it.
pub(crate) fn is_schema_missing(error: &sqlx::Error) -> bool {
    is_of(error, &["42P01", "3F000", "42703", "42883"])
}

/// Whether the role lacks a grant.
pub(crate) fn is_permission_missing(error: &sqlx::Error) -> bool {
    is_of(error, &["42501"])
}

/// Whether a prepared statement is unknown, or there already: names are ours and never given twice, so somebody in
/// between mixes sessions up.
pub(crate) fn is_statement_of_others(error: &sqlx::Error) -> bool {
    is_of(error, &["26000", "42P05"])
}
