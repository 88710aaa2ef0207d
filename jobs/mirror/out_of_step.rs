//! What is known to differ at Polar although nobody works on it: since when, and why.
//!
//! Written at once, because the job that notes it fails. A job's end in the job table says what
//! became of one attempt. This says what is still missing, and whether to try again: a reason may pass, but
//! where Polar refuses a version only a newer one is tried.

use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::types::{OrganizationId, UserId};

/// What is out of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The customer itself.
    Customer,
    /// One of its members.
    Member(UserId),
    /// What its grants give: the catalogue at Polar must be corrected.
    Benefits,
}

/// Why, and whether another try is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Shown to operators; no personal data.
    pub reason: String,
    /// The version that Polar refuses for good; `None` = the reason may pass.
    pub refused_version: Option<i64>,
    /// Who has the address that is wanted; or, where it is about ownership, the owner at Polar whom nobody is to
    /// follow.
    pub holder: Option<UserId>,
}

impl Cause {
    /// A reason that may pass by itself, or once `holder` gives way.
    pub(crate) fn temporary(reason: impl Into<String>, holder: Option<UserId>) -> Self {
        Self {
            reason: reason.into(),
            refused_version: None,
            holder,
        }
    }

    /// Polar refuses this version for good, or until `holder` gives way.
    pub(crate) fn refused(reason: impl Into<String>, holder: Option<UserId>, version: i64) -> Self {
        Self {
            reason: reason.into(),
            refused_version: Some(version),
            holder,
        }
    }
}

impl Subject {
    fn text(self) -> String {
        match self {
            Self::Customer => "customer".to_owned(),
            Self::Member(user) => format!("member/{user}"),
            Self::Benefits => "benefits".to_owned(),
        }
    }
}

/// Notes why a subject is not in step; nothing where the organization was deleted meanwhile.
///
/// # Errors
/// If the database fails.
pub async fn note(
    executor: impl PgExecutor<'_>,
    organization: OrganizationId,
    subject: Subject,
    cause: &Cause,
) -> Result<(), sqlx::Error> {
    write(executor, organization, subject, cause, false).await?;
    Ok(())
}

/// Notes that a subject waits for another one of ours. Returns how often it has waited since it was
/// last given up, this time included. Where the organization was deleted meanwhile nothing is noted, and
/// this counts as the first time: the next look finds it deleted.
///
/// # Errors
/// If the database fails.
pub async fn note_wait(
    pool: &PgPool,
    organization: OrganizationId,
    subject: Subject,
    cause: &Cause,
) -> Result<u32, sqlx::Error> {
    let waits = write(pool, organization, subject, cause, true).await?;
    Ok(waits.map_or(1, |waits| u32::try_from(waits).unwrap_or(0)))
}

async fn write(
    executor: impl PgExecutor<'_>,
    organization: OrganizationId,
    subject: Subject,
    cause: &Cause,
    waited: bool,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT polar_jobs.note_out_of_step($1, $2, $3, $4, $5, $6) AS waits",
        organization.0,
        subject.text(),
        cause.reason,
        cause.refused_version,
        cause.holder.map(|holder| holder.0),
        waited,
    )
    .fetch_one(executor)
    .await
}

/// Whether a member's sync was given up: no job of theirs comes before something changes.
///
/// # Errors
/// If the database fails.
pub async fn is_given_up(
    pool: &PgPool,
    organization: OrganizationId,
    user: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM polar_jobs.out_of_step
                           WHERE organization_id = $1 AND subject = $2 AND refused_version IS NOT NULL) AS "given_up!""#,
        organization.0,
        Subject::Member(user).text(),
    )
    .fetch_one(pool)
    .await
}

/// The subject is in step.
///
/// # Errors
/// If the database fails.
pub async fn clear(
    connection: &mut PgConnection,
    organization: OrganizationId,
    subject: Subject,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM polar_jobs.out_of_step WHERE organization_id = $1 AND subject = $2",
        organization.0,
        subject.text(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The members who are out of step because `holder` had the address they want, and who can have it
/// now that `holder` has the address `keeps` at Polar (`None` = is no member any more); and, where
/// `holder` owns the customer, whoever could not go or step down before somebody did. Compares
/// with what Polar holds and not with what changed last, so a run that is repeated after a crash
/// finds them too.
///
/// # Errors
/// If the database fails.
pub async fn waiting_for(
    connection: &mut PgConnection,
    organization: OrganizationId,
    holder: UserId,
    keeps: Option<&str>,
    owns: bool,
) -> Result<Vec<UserId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT p.user_id
           FROM polar_jobs.out_of_step s JOIN polar_jobs.people p ON s.subject = 'member/' || p.user_id
          WHERE s.organization_id = $1 AND p.user_id <> $2
            AND (s.holder = $2 AND ($3::text IS NULL OR lower(p.email) <> lower($3))
                 OR $4 AND s.holder = p.user_id)
          ORDER BY s.since",
        organization.0,
        holder.0,
        keeps,
        owns,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(UserId).collect())
}
