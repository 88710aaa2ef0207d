//! All that a running job may touch.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::{Error, Verdict};
use crate::app_webhook::AppWebhook;
use crate::mail::Mailer;

/// All that a running job may touch: the Polar client, the mirror's database, and the settings.
#[derive(Clone, Debug)]
pub struct Context {
    /// The Polar client behind the fleet's rate limiter; `None` while billing is not configured.
    pub polar: Option<polar::Client>,
    /// Takes mails away; `None` without `MAIL_URL`.
    pub mail: Option<Mailer>,
    /// Connections for the mirror. Never held across a call to Polar.
    pub pool: PgPool,
    /// What the operator configured.
    pub settings: Arc<Settings>,
    /// Facts about this attempt.
    pub job: JobFacts,
}

/// What jobs need to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `POLAR_ORGANIZATION_ID`: never synced as a customer, never metered.
    pub self_organization: Option<Uuid>,
    /// What an organization pays without a grant and without fees of its own.
    pub platform_fees: Fees,
    /// What early members pay.
    pub early_fees: Fees,
    /// `APP_WEBHOOK_URL`: where the application is told what changed; `None` = nobody is told.
    pub app_webhook: Option<AppWebhook>,
    /// The support desk; `None` without a token: nothing goes there.
    pub support_desk: Option<SupportDesk>,
    /// The types of events that we handle, so that our endpoint must be subscribed to them.
    pub webhook_events: Vec<&'static str>,
}

impl Default for Settings {
    /// Nothing is configured: what a benchmark or a test begins with.
    fn default() -> Self {
        Self {
            self_organization: None,
            platform_fees: Fees::ZERO,
            early_fees: Fees::ZERO,
            app_webhook: None,
            support_desk: None,
            webhook_events: Vec::new(),
        }
    }
}

/// The support desk, Plain.
#[derive(Clone, Debug)]
pub struct SupportDesk {
    /// The client; clones share what is known about Plain.
    pub client: plain::Client,
    /// The tier of a tenant without any, by Plain's external id.
    pub default_tier: Option<String>,
}

/// What an organization pays for a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Share of the amount, in basis points (380 = 3.80 %).
    pub basis_points: i32,
    /// Per transaction, in cents.
    pub fixed: i32,
    /// Additional share on subscriptions, in basis points.
    pub subscription_basis_points: i32,
}

impl Fees {
    /// Nothing is paid.
    pub const ZERO: Self = Self {
        basis_points: 0,
        fixed: 0,
        subscription_basis_points: 0,
    };
}

/// Facts about the running attempt.
#[derive(Clone, Debug)]
pub struct JobFacts {
    /// The row's id.
    pub id: i64,
    /// Claims so far, this one included.
    pub attempt: i32,
    /// Failures so far.
    pub failures: u32,
    /// Failures after which the job is discarded.
    pub max_attempts: u32,
    /// The external events that caused it.
    pub events: Vec<i64>,
    /// When it was claimed for this attempt, by the clock of Postgres.
    pub started_at: DateTime<Utc>,
}

impl JobFacts {
    /// Whether the job is not tried again after this error.
    #[must_use]
    pub fn ends_with(&self, error: &Error) -> bool {
        match error.verdict() {
            Verdict::Discard { .. } => true,
            Verdict::Retry { .. } => self.failures + 1 >= self.max_attempts,
            Verdict::Wait { .. } => false,
        }
    }
}

impl Context {
    /// Begins the transaction that the worker will commit together with the completion;
    /// see [`super::Done::within`].
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        super::begin(&self.pool).await
    }
}
