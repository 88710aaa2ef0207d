//! Connections: what our processes may take, and what the server has left for them. Small managed
//! databases offer twenty in all, and a process that gets none can neither store nor run anything.

use sqlx::{PgPool, Row};

use super::Finding;
use crate::queue::connect::ConnectionBudget;

/// What the server offers and who uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connections {
    /// Those that a role without privileges may have, by the narrowest limit of server, database and role.
    offered: i64,
    /// Open ones that are not ours.
    others: i64,
    /// Living workers.
    workers: i64,
}

/// `most` is what `DATABASE_CONNECTIONS` allows one process.
pub(super) async fn check(pool: &PgPool, most: u32) -> Result<Vec<Finding>, sqlx::Error> {
    // Names of columns and settings that only some versions have are asked for by text.
    let row = sqlx::query(
        "SELECT least(current_setting('max_connections')::bigint
                      - current_setting('superuser_reserved_connections')::bigint
                      - coalesce(current_setting('reserved_connections', true), '0')::bigint,
                      (SELECT nullif(datconnlimit, -1) FROM pg_catalog.pg_database WHERE datname = current_database()),
                      (SELECT nullif(rolconnlimit, -1) FROM pg_catalog.pg_roles WHERE rolname = current_user))::bigint AS offered,
                (SELECT count(*) FROM pg_catalog.pg_stat_activity
                  WHERE backend_type = 'client backend' AND application_name NOT LIKE 'polar-jobs%') AS others,
                (SELECT count(*) FROM polar_jobs.workers WHERE leased_until > now()) AS workers",
    )
    .fetch_one(pool)
    .await?;
    let found = Connections {
        offered: row.try_get("offered")?,
        others: row.try_get("others")?,
        workers: row.try_get("workers")?,
    };
    Ok(vec![judge(found, most)])
}

fn judge(connections: Connections, most: u32) -> Finding {
    const FIX: &str =
        "raise the server's limit, lower DATABASE_CONNECTIONS, or put a pooler before Postgres";
    let Connections {
        offered,
        others,
        workers,
    } = connections;
    let needed = workers * i64::from(ConnectionBudget::of_worker(most))
        + i64::from(ConnectionBudget::of_ingress(most));
    let processes = workers + 1;
    let what = format!(
        "{processes} of our processes (an ingress, and each living worker) may take {needed}; \
         the server offers {offered}, others use {others}"
    );
    if needed > offered {
        Finding::error("connections", what, FIX)
    } else if needed + others > offered {
        Finding::warning("connections", what, FIX)
    } else {
        Finding::ok("connections", what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error_and_what_others_may_take_a_warning() {
        for (offered, others, workers, level) in [
            (97, 20, 3, Level::Ok),
            (20, 0, 2, Level::Ok),
            (20, 1, 2, Level::Warning),
            (20, 0, 3, Level::Error),
        ] {
            let connections = Connections {
                offered,
                others,
                workers,
            };
            let found = judge(connections, ConnectionBudget::DEFAULT);
            assert_eq!(found.level, level, "{connections:?}");
        }
    }
}
