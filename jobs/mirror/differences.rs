//! What a comparison with Polar found, and which organization is compared next.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::types::OrganizationId;

/// How the subjects begin of what is at Polar and is none of ours.
pub const STRANGER: &str = "stranger/";

/// Something that differs. Its fields may hold names and addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// `customer`, `member/…`, `benefits`, `subscription` or `stranger/…`.
    pub subject: String,
    /// The fields that differ, as they are wanted; `None` = nothing is wanted.
    pub wanted: Option<Value>,
    /// The same as Polar has them; `None` = Polar has nothing.
    pub found: Option<Value>,
    /// Why, in words.
    pub cause: String,
}

/// Writes what a comparison of one organization found; what was open and is not among it is repaired,
/// but for the subjects that jobs are `under_way` about. `repair`: jobs repair what was found.
///
/// # Errors
/// If the database fails.
pub async fn write(
    connection: &mut PgConnection,
    organization: OrganizationId,
    found: &[Difference],
    under_way: &[String],
    repair: bool,
) -> Result<(), sqlx::Error> {
    // This row first: two comparisons of one organization come behind each other here.
    sqlx::query!(
        "INSERT INTO polar_jobs.comparisons AS c (organization_id, tried_at, repair_tried_at, compared_at)
         VALUES ($1, clock_timestamp(), CASE WHEN $2 THEN clock_timestamp() END, clock_timestamp())
         ON CONFLICT (organization_id) DO UPDATE
            SET tried_at = excluded.tried_at, compared_at = excluded.compared_at,
                repair_tried_at = coalesce(excluded.repair_tried_at, c.repair_tried_at)",
        organization.0,
        repair,
    )
    .execute(&mut *connection)
    .await?;
    for difference in found {
        put(connection, Some(organization.0), difference).await?;
    }
    let subjects = found.iter().map(|one| &one.subject).chain(under_way);
    let subjects: Vec<&str> = subjects.map(String::as_str).collect();
    sqlx::query!(
        "UPDATE polar_jobs.differences SET repaired_at = now()
          WHERE organization_id = $1 AND repaired_at IS NULL AND subject <> ALL ($2)
            AND subject NOT LIKE 'stranger/customer/%'",
        organization.0,
        &subjects as &[&str],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes one difference, or that it is still there.
///
/// # Errors
/// If the database fails.
pub async fn put(
    connection: &mut PgConnection,
    organization: Option<Uuid>,
    difference: &Difference,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.differences (organization_id, subject, wanted, found, cause)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (subject, (coalesce(organization_id, '00000000-0000-0000-0000-000000000000')))
               WHERE repaired_at IS NULL
         DO UPDATE SET last_seen = now(), wanted = excluded.wanted, found = excluded.found, cause = excluded.cause",
        organization,
        difference.subject,
        difference.wanted,
        difference.found,
        difference.cause,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes a comparison that came to no end: another one is compared before it is tried again. `repair`: it
/// was a run that repairs.
///
/// # Errors
/// If the database fails.
pub async fn note_tried(
    connection: &mut PgConnection,
    organization: OrganizationId,
    repair: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.comparisons AS c (organization_id, tried_at, repair_tried_at)
         VALUES ($1, clock_timestamp(), CASE WHEN $2 THEN clock_timestamp() END)
         ON CONFLICT (organization_id) DO UPDATE
            SET tried_at = excluded.tried_at,
                repair_tried_at = coalesce(excluded.repair_tried_at, c.repair_tried_at)",
        organization.0,
        repair,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The statement over the living organizations that a run since `$since` has still to compare: `$select` says what of
/// them, `$rest` in which order. `$repair`: that no run that repairs has compared. `$except`: never this one.
macro_rules! of_those_left {
    ($select:literal, $rest:literal, $since:ident, $repair:ident, $except:ident $(, $value:expr)*) => {
        sqlx::query_scalar!(
            $select
                + " FROM polar_jobs.organizations o
                    LEFT JOIN polar_jobs.comparisons c ON c.organization_id = o.id
                    CROSS JOIN LATERAL (SELECT CASE WHEN $2 THEN c.repair_tried_at ELSE c.tried_at END AS at) tried
                   WHERE o.deleted_at IS NULL AND ($3::uuid IS NULL OR o.id <> $3)
                     AND (tried.at IS NULL OR tried.at < $1) "
                + $rest,
            $since,
            $repair,
            $except
            $(, $value)*
        )
    };
}

/// Living organizations that were not compared since `since`, at most `limit`, those that waited longest
/// first. `repair`: that no run that repairs has compared. `except`: never this one.
///
/// # Errors
/// If the database fails.
pub async fn next(
    pool: &PgPool,
    since: DateTime<Utc>,
    repair: bool,
    except: Option<Uuid>,
    limit: i64,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let oldest_first = of_those_left!(
        "SELECT o.id",
        "ORDER BY tried.at NULLS FIRST, o.id LIMIT $4",
        since,
        repair,
        except,
        limit
    );
    let ids = oldest_first.fetch_all(pool).await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}

/// How many of them there are.
///
/// # Errors
/// If the database fails.
pub async fn left(
    pool: &PgPool,
    since: DateTime<Utc>,
    repair: bool,
    except: Option<Uuid>,
) -> Result<i64, sqlx::Error> {
    of_those_left!(r#"SELECT count(*) AS "left!""#, "", since, repair, except)
        .fetch_one(pool)
        .await
}

/// Ends what is open about organizations that live no longer, about `except`, which no run compares, and about customers of
/// others that a whole run since `since` did not meet.
///
/// # Errors
/// If the database fails.
pub async fn close_gone(
    connection: &mut PgConnection,
    since: DateTime<Utc>,
    except: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.differences d SET repaired_at = now()
          WHERE d.repaired_at IS NULL
            AND CASE WHEN d.subject LIKE 'stranger/customer/%' THEN d.last_seen < $1
                     WHEN d.organization_id = $2 THEN true
                     ELSE NOT EXISTS (SELECT FROM polar_jobs.organizations o
                                       WHERE o.id = d.organization_id AND o.deleted_at IS NULL) END",
        since,
        except,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Those of these ids whose customer at Polar nobody wants, and which no deletion is under way for.
///
/// # Errors
/// If the database fails.
pub async fn unwanted(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT given.id AS "id!" FROM unnest($1::uuid[]) AS given (id)
            WHERE NOT EXISTS (SELECT FROM polar_jobs.organizations o
                               WHERE o.id = given.id AND (o.deleted_at IS NULL OR o.erasure_event IS NOT NULL))"#,
        ids,
    )
    .fetch_all(pool)
    .await
}

/// A difference for people.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OpenDifference {
    /// Whose; `None` = nobody's.
    pub organization_id: Option<Uuid>,
    /// What differs.
    pub subject: String,
    /// As it is wanted.
    pub wanted: Option<Value>,
    /// As Polar has it.
    pub found: Option<Value>,
    /// Why.
    pub cause: String,
    /// Since when it is known.
    pub first_seen: DateTime<Utc>,
    /// When it was last seen.
    pub last_seen: DateTime<Utc>,
}

/// What is open, by cause; of one organization where one is given.
///
/// # Errors
/// If the database fails.
pub async fn open(
    pool: &PgPool,
    organization: Option<Uuid>,
) -> Result<Vec<OpenDifference>, sqlx::Error> {
    sqlx::query_as!(
        OpenDifference,
        "SELECT organization_id, subject, wanted, found, cause, first_seen, last_seen
           FROM polar_jobs.differences
          WHERE repaired_at IS NULL AND ($1::uuid IS NULL OR organization_id = $1)
          ORDER BY cause, organization_id, subject",
        organization,
    )
    .fetch_all(pool)
    .await
}

/// For how many seconds the oldest open difference is known; 0 = there is none.
///
/// # Errors
/// If the database fails.
pub async fn oldest_seconds(pool: &PgPool) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(extract(epoch FROM now() - min(first_seen)), 0)::float8 AS "seconds!"
             FROM polar_jobs.differences WHERE repaired_at IS NULL"#
    )
    .fetch_one(pool)
    .await
}
