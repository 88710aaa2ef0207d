//! Costs on their way to Polar: which are to be sent, and what became of them.

use std::collections::BTreeSet;

use sqlx::PgPool;
use uuid::Uuid;

/// A cost reading that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingCost {
    /// The row.
    pub id: i64,
    /// Who caused it.
    pub organization_id: Uuid,
    /// What caused it.
    pub source: String,
    /// What of it.
    pub context: Option<String>,
    /// Who runs the model.
    pub vendor: Option<String>,
    /// Which model.
    pub model: Option<String>,
    /// Tokens read.
    pub input_tokens: Option<i64>,
    /// Tokens written.
    pub output_tokens: Option<i64>,
    /// US dollars, as the table writes them.
    pub cost_usd: String,
    /// The run's own id.
    pub usage_id: Option<String>,
    /// Stands in for a missing usage id.
    pub reading_id: Uuid,
}

/// Sets aside what is never reported: no cost, a cost of nothing, reviews of the self organization,
/// a run that is there already, and what was recorded between a deletion of the organization and its
/// new creation.
///
/// # Errors
/// If the database fails.
pub async fn skip(pool: &PgPool, self_organization: Option<Uuid>) -> Result<u64, sqlx::Error> {
    let never = sqlx::query!(
        "UPDATE polar_jobs.costs c SET state = 'skipped', reason = j.never
           FROM polar_jobs.judged_costs($1) j
          WHERE c.id = j.id AND j.never IS NOT NULL AND c.state = 'waiting'",
        self_organization,
    )
    .execute(pool)
    .await?;
    // Only now: a cost that is itself set aside stands in for no other.
    let repeated = sqlx::query!(
        "UPDATE polar_jobs.costs c SET state = 'skipped', reason = 'the same run as cost ' || j.same_run_as
           FROM polar_jobs.judged_costs($1) j
          WHERE c.id = j.id AND j.never IS NULL AND j.same_run_as IS NOT NULL AND c.state = 'waiting'",
        self_organization,
    )
    .execute(pool)
    .await?;
    Ok(never.rows_affected() + repeated.rows_affected())
}

/// The next costs to send, oldest first, beyond row `after`. What [`skip`] would set aside is left out
/// here too: it may have come, or become so, between the two.
///
/// # Errors
/// If the database fails.
pub async fn waiting(
    pool: &PgPool,
    self_organization: Option<Uuid>,
    after: i64,
    limit: i64,
) -> Result<Vec<WaitingCost>, sqlx::Error> {
    sqlx::query_as!(
        WaitingCost,
        r#"SELECT c.id, c.organization_id, c.source, c.context, c.vendor, c.model, c.input_tokens,
                  c.output_tokens, c.cost_usd::text AS "cost_usd!", c.usage_id, c.reading_id
             FROM polar_jobs.judged_costs($2) j JOIN polar_jobs.costs c ON c.id = j.id
            WHERE j.id > $1 AND j.may_go
            ORDER BY j.id LIMIT $3"#,
        after,
        self_organization,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// These rows are about to be sent: from now on Polar may know them. Returns those that are sent for
/// the first time, which it cannot know yet.
///
/// # Errors
/// If the database fails; then they must not be sent.
pub async fn mark_sent(pool: &PgPool, ids: &[i64]) -> Result<BTreeSet<i64>, sqlx::Error> {
    let rows = sqlx::query!(
        "UPDATE polar_jobs.costs SET sends = sends + 1 WHERE id = ANY ($1) RETURNING id, sends",
        ids,
    )
    .fetch_all(pool)
    .await?;
    let first = rows.into_iter().filter(|row| row.sends == 1);
    Ok(first.map(|row| row.id).collect())
}

/// Polar knew these rows although they were sent for the first time: it holds something else under
/// their ids, and dropped them. Kept with the reason, unless somebody else sent them meanwhile; then
/// they wait, and are sent again. Returns the refused ones.
///
/// # Errors
/// If the database fails.
pub async fn refuse_foreign(
    pool: &PgPool,
    ids: &[i64],
    reason: &str,
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "UPDATE polar_jobs.costs SET state = 'refused', reason = $2
          WHERE id = ANY ($1) AND state = 'waiting' AND sends = 1 RETURNING id",
        ids,
        reason,
    )
    .fetch_all(pool)
    .await
}

/// Polar accounted for all events of these rows.
///
/// # Errors
/// If the database fails; the rows keep waiting and are sent again, to the same effect.
pub async fn mark_reported(pool: &PgPool, ids: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.costs SET state = 'reported', reported_at = clock_timestamp()
          WHERE id = ANY ($1) AND state = 'waiting'",
        ids,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Polar refused these rows, each for its reason. They are kept, and sent again only on command.
///
/// # Errors
/// If the database fails.
pub async fn refuse(pool: &PgPool, refused: &[(i64, String)]) -> Result<(), sqlx::Error> {
    let (ids, reasons): (Vec<i64>, Vec<String>) = refused.iter().cloned().unzip();
    sqlx::query!(
        "UPDATE polar_jobs.costs c SET state = 'refused', reason = sent.reason
           FROM unnest($1::bigint[], $2::text[]) AS sent (id, reason)
          WHERE c.id = sent.id AND c.state = 'waiting'",
        &ids,
        &reasons,
    )
    .execute(pool)
    .await?;
    Ok(())
}
