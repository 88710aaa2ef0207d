//! What our tables say that an organization may do.

use sqlx::PgPool;
use uuid::Uuid;

use super::at_polar::subscription_text;

/// Entitlements, subscription and fees of one organization.
pub(super) struct Held {
    plan: String,
    subscription_status: Option<String>,
    support_tier: Option<String>,
    preview_access: bool,
    sso_enabled: bool,
    status: Option<String>,
    amount: Option<i64>,
    cancel_at_period_end: Option<bool>,
    fee_basis_points: Option<i32>,
    fee_fixed: Option<i32>,
    subscription_fee_basis_points: Option<i32>,
}

/// `None` where there is no row, as for one that was deleted.
pub(super) async fn of(pool: &PgPool, organization: Uuid) -> Result<Option<Held>, sqlx::Error> {
    sqlx::query_as!(
        Held,
        r#"SELECT e.plan AS "plan!", e.subscription_status, e.support_tier, e.preview_access AS "preview_access!",
                  e.sso_enabled AS "sso_enabled!", s.status AS "status?", s.amount AS "amount?",
                  s.cancel_at_period_end AS "cancel_at_period_end?", a.fee_basis_points AS "fee_basis_points?",
                  a.fee_fixed AS "fee_fixed?", a.subscription_fee_basis_points AS "subscription_fee_basis_points?"
             FROM polar_jobs.entitlements e
             LEFT JOIN polar_jobs.subscriptions s USING (organization_id)
             LEFT JOIN polar_jobs.accounts a USING (organization_id)
            WHERE e.organization_id = $1"#,
        organization,
    )
    .fetch_optional(pool)
    .await
}

impl Held {
    pub(super) fn plan(&self) -> String {
        format!(
            "{} {}",
            self.plan,
            self.subscription_status.as_deref().unwrap_or("-")
        )
    }

    pub(super) fn subscription(&self) -> String {
        match (&self.status, self.amount, self.cancel_at_period_end) {
            (Some(status), Some(amount), Some(ends)) => subscription_text(status, amount, ends),
            _ => "none".to_owned(),
        }
    }

    pub(super) fn rights(&self) -> String {
        let tier = self.support_tier.as_deref().unwrap_or("no");
        let preview = if self.preview_access { " preview" } else { "" };
        let sso = if self.sso_enabled { " sso" } else { "" };
        format!("{tier} support{preview}{sso}")
    }

    pub(super) fn fees(&self) -> String {
        match (
            self.fee_basis_points,
            self.fee_fixed,
            self.subscription_fee_basis_points,
        ) {
            (Some(points), Some(fixed), Some(subscription)) => {
                format!("{points}/{fixed}/{subscription}")
            }
            _ => "none".to_owned(),
        }
    }
}
