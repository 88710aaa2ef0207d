//! Costs on their way to Polar: which are to be sent, and what became of them.

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

/// Sets aside what is never reported: no cost, a cost of nothing, reviews of the self organization
/// (polar-domain (b.8)), and costs of deleted organizations.
///
/// # Errors
/// If the database fails.
pub async fn skip(pool: &PgPool, self_organization: Option<Uuid>) -> Result<u64, sqlx::Error> {
    let skipped = sqlx::query!(
        "UPDATE polar_jobs.costs c SET state = 'skipped', reason = w.reason
           FROM (SELECT c.id, CASE
                        WHEN c.cost_usd IS NULL OR c.cost_usd = 0 THEN 'there is no cost to report'
                        WHEN c.source = 'organization_review' AND c.organization_id = $1
                            THEN 'a review of the self organization'
                        WHEN o.deleted_at IS NOT NULL THEN 'the organization is deleted'
                    END AS reason
                   FROM polar_jobs.costs c LEFT JOIN polar_jobs.organizations o ON o.id = c.organization_id
                  WHERE c.state = 'waiting') w
          WHERE c.id = w.id AND w.reason IS NOT NULL AND c.state = 'waiting'",
        self_organization,
    )
    .execute(pool)
    .await?;
    Ok(skipped.rows_affected())
}

/// The next costs to send, oldest first, beyond row `after`. Those of an organization that is not
/// created yet wait; the self organization needs no row.
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
             FROM polar_jobs.costs c
            WHERE c.state = 'waiting' AND c.id > $1 AND c.cost_usd > 0
              AND (c.organization_id = $2 OR EXISTS (
                  SELECT 1 FROM polar_jobs.organizations o WHERE o.id = c.organization_id AND o.deleted_at IS NULL))
            ORDER BY c.id LIMIT $3"#,
        after,
        self_organization,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Polar accounted for all events of these rows.
///
/// # Errors
/// If the database fails; the rows keep waiting and are sent again, to the same effect.
pub async fn settle(pool: &PgPool, ids: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.costs SET state = 'reported', reported_at = now()
          WHERE id = ANY ($1) AND state = 'waiting'",
        ids,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Polar refused these rows, each for its reason. They are kept, and sent again only when told.
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
