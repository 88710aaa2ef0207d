//! What every request of the API shares.

use std::sync::Arc;

use ipnet::IpNet;
use jobs::NewJob;
use jobs::contract::Fees;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use uuid::Uuid;

use super::return_url::ReturnUrls;
use super::session_token::SessionVerifier;
use crate::config::AppSettings;
use crate::queue::connect::Pooler;
use crate::queue::enqueue;
use crate::queue::notifier::Notifier;

/// What the API needs to know.
#[derive(Clone)]
pub struct ApiSettings {
    /// Connections for short statements; none is held while Polar is asked.
    pub pool: PgPool,
    /// What stands between us and the database.
    pub pooler: Pooler,
    /// A client behind the fleet's rate limiter; `None` while billing is off.
    pub polar: Option<polar::Client>,
    /// `APP_TOKEN`: the application's server.
    pub app_token: Option<SecretString>,
    /// The application.
    pub app: AppSettings,
    /// `POLAR_ORGANIZATION_ID`: sells the plans, and buys none.
    pub self_organization: Option<Uuid>,
    /// `POLAR_SCALE_PRODUCT_ID`: the product of the startup program; `None`: there is none.
    pub scale_product: Option<polar::ProductId>,
    /// What the free plan costs.
    pub platform_fees: Fees,
    /// What early members pay.
    pub early_fees: Fees,
}

pub(super) struct ApiState {
    pub(super) pool: PgPool,
    notifier: Notifier,
    pub(super) polar: Option<polar::Client>,
    pub(super) app_token: Option<SecretString>,
    pub(super) sessions: Option<SessionVerifier>,
    pub(super) origins: Vec<String>,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) return_urls: ReturnUrls,
    pub(super) self_organization: Option<Uuid>,
    pub(super) scale_product: Option<polar::ProductId>,
    pub(super) platform_fees: Fees,
    pub(super) early_fees: Fees,
}

impl ApiState {
    pub(super) fn new(settings: ApiSettings) -> Arc<Self> {
        let app = settings.app;
        Arc::new(Self {
            notifier: Notifier::new(settings.pool.clone(), settings.pooler),
            pool: settings.pool,
            polar: settings.polar,
            app_token: settings
                .app_token
                .filter(|token| !token.expose_secret().is_empty()),
            sessions: app.session_secret.as_ref().map(SessionVerifier::new),
            return_urls: ReturnUrls::new(app.url, app.origins.clone()),
            origins: app.origins,
            trusted_proxies: app.trusted_proxies,
            self_organization: settings.self_organization,
            scale_product: settings.scale_product,
            platform_fees: settings.platform_fees,
            early_fees: settings.early_fees,
        })
    }

    /// Writes one job and wakes a worker.
    pub(super) async fn enqueue(&self, job: &NewJob) -> Result<(), sqlx::Error> {
        let mut transaction = jobs::contract::begin(&self.pool).await?;
        enqueue::insert(&mut transaction, job).await?;
        transaction.commit().await?;
        self.wake();
        Ok(())
    }

    /// Wakes a worker for the job that was just committed.
    pub(super) fn wake(&self) {
        self.notifier.notify(jobs::contract::Queue::Default.name());
    }
}
