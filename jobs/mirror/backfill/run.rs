//! How far a backfill of every organization is: one that was stopped goes on where it was.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::types::OrganizationId;

/// A run over every organization that we know.
#[derive(Clone, Copy, Debug)]
pub struct Backfill {
    /// Its id.
    pub id: i64,
    /// The last organization whose jobs are written.
    pub position: Option<Uuid>,
    /// How many that were.
    pub organizations: i64,
}

/// Goes on with the run that was not finished, or begins one; holds its row until the transaction ends.
/// `None`: somebody else held it, and finished it meanwhile.
///
/// # Errors
/// If the database fails.
pub async fn open(
    connection: &mut PgConnection,
    actor: &str,
) -> Result<Option<Backfill>, sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.backfills (actor) VALUES ($1) ON CONFLICT DO NOTHING",
        actor
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query_as!(
        Backfill,
        "SELECT id, position, organizations FROM polar_jobs.backfills WHERE finished_at IS NULL FOR UPDATE",
    )
    .fetch_optional(connection)
    .await
}

/// Remembers how far a run is; without a last organization it is finished.
///
/// # Errors
/// If the database fails.
pub async fn advance(
    connection: &mut PgConnection,
    id: i64,
    last: Option<OrganizationId>,
    organizations: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.backfills
            SET position = coalesce($2, position), organizations = organizations + $3,
                finished_at = CASE WHEN $2::uuid IS NULL THEN now() END
          WHERE id = $1",
        id,
        last.map(|organization| organization.0),
        organizations,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Living organizations in the order of their ids.
///
/// # Errors
/// If the database fails.
pub async fn page(
    connection: &mut PgConnection,
    after: Option<Uuid>,
    except: Option<Uuid>,
    limit: i64,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM polar_jobs.organizations
          WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR id > $1) AND ($2::uuid IS NULL OR id <> $2)
          ORDER BY id LIMIT $3",
        after,
        except,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}
