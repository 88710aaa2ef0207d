//! Fees in our tables, and the platform's: what an organization pays that has neither a grant nor fees of its own.

use sqlx::PgConnection;

use crate::contract::Fees;

/// The fees that three columns hold, which are null together.
pub(in crate::mirror) fn from_columns(
    basis_points: Option<i32>,
    fixed: Option<i32>,
    subscription_basis_points: Option<i32>,
) -> Option<Fees> {
    Some(Fees {
        basis_points: basis_points?,
        fixed: fixed?,
        subscription_basis_points: subscription_basis_points?,
    })
}

/// Puts the platform's fees in force for every account that follows them. Each starting worker
/// declares its settings, so the one that starts last decides; the same settings again change
/// nothing. Returns whether they changed.
///
/// # Errors
/// If the database fails.
pub async fn declare(connection: &mut PgConnection, fees: Fees) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query!(
        "UPDATE polar_jobs.platform_fees
            SET fee_basis_points = $1, fee_fixed = $2, subscription_fee_basis_points = $3, changed_at = now()
          WHERE (fee_basis_points, fee_fixed, subscription_fee_basis_points) IS DISTINCT FROM ($1, $2, $3)",
        fees.basis_points,
        fees.fixed,
        fees.subscription_basis_points,
    )
    .execute(connection)
    .await?;
    let changed = changed.rows_affected() > 0;
    if changed {
        tracing::info!(
            basis_points = fees.basis_points,
            fixed = fees.fixed,
            subscription_basis_points = fees.subscription_basis_points,
            "the platform's fees changed"
        );
    }
    Ok(changed)
}
