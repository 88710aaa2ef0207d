//! The environment, parsed once: everything after this module holds values that cannot be wrong.
//!
//! A wrong value stops start-up with one line that names the variable, says what is wrong and what
//! is allowed. No value is ever repeated in it, because a secret in the wrong variable is still a
//! secret. What a command needs and does not find is asked for by that command alone.

mod app;
mod app_webhook;
mod database;
mod dotenv;
mod environment;
mod error;
mod fees;
mod http;
mod log;
mod mail;
mod plain;
mod polar;
mod secret;

use jobs::app_webhook::AppWebhookSettings;
use jobs::contract::Fees;
use jobs::mail::Mailer;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

pub use app::AppSettings;
pub use database::DatabaseUrl;
pub use environment::Environment;
pub use error::ConfigError;
pub use http::HttpSettings;
pub use log::{LogFormat, LogSettings};
pub use mail::MailSettings;
pub use plain::PlainSettings;
pub use polar::{Billing, PolarSettings};

/// Everything that the operator may set.
#[derive(Clone, Debug)]
pub struct Config {
    /// `DATABASE_URL`; `None` where it is not set.
    pub database: Option<DatabaseUrl>,
    /// Connections at most per process, all purposes together.
    pub database_connections: u32,
    /// The ingress and the metrics page.
    pub http: HttpSettings,
    /// The application, and who of its people may call us.
    pub app: AppSettings,
    /// Polar, and whether billing is on.
    pub polar: PolarSettings,
    /// The support desk; `None` without `PLAIN_TOKEN`: its calls are skipped.
    pub plain: Option<PlainSettings>,
    /// Where the application is told what changed; `None` without `APP_WEBHOOK_URL`.
    pub app_webhook: Option<AppWebhookSettings>,
    /// What an organization pays without a grant and without fees of its own.
    pub platform_fees: Fees,
    /// What early members pay.
    pub early_fees: Fees,
    /// How mail leaves; `None` without `MAIL_URL`.
    pub mail: Option<MailSettings>,
    /// Jobs at once per worker process, at least 1.
    pub worker_slots: u32,
    /// How and how much is logged.
    pub log: LogSettings,
}

impl Config {
    /// Reads every variable.
    ///
    /// # Errors
    /// The first variable that holds something that is not allowed.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            database: database::read(environment)?,
            database_connections: database::connections(environment)?,
            http: http::read(environment)?,
            app: app::read(environment)?,
            polar: polar::read(environment)?,
            plain: plain::read(environment)?,
            app_webhook: app_webhook::read(environment)?,
            platform_fees: fees::platform(environment)?,
            early_fees: fees::early(environment)?,
            mail: mail::read(environment)?,
            worker_slots: environment.whole_number("WORKER_SLOTS", 50, 1..=10_000)?,
            log: log::read(environment)?,
        })
    }

    /// The database, for a command that cannot do without one.
    ///
    /// # Errors
    /// When `DATABASE_URL` is not set.
    pub fn database(&self) -> Result<&DatabaseUrl, ConfigError> {
        self.database
            .as_ref()
            .ok_or_else(|| ConfigError::missing("DATABASE_URL", database::ALLOWED))
    }

    /// Our own organization, which is never a customer of itself; `None` while billing is off.
    #[must_use]
    pub fn self_organization(&self) -> Option<Uuid> {
        let billing = self.polar.billing.as_ref()?;
        Some(billing.organization)
    }

    /// What takes mail away; `None` without `MAIL_URL`. One for a process: it remembers whether the mail server
    /// answers.
    #[must_use]
    pub fn mailer(&self) -> Option<Mailer> {
        let mail = self.mail.as_ref()?;
        Some(mail.mailer(self.app.url.as_ref()))
    }

    /// Every configured secret, for the masker; nothing else may expose them.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretString> {
        let mut secrets = self.polar.webhook_secrets.clone();
        secrets.extend(
            self.polar
                .billing
                .as_ref()
                .map(|billing| billing.access_token.clone()),
        );
        secrets.extend(self.http.app_token.clone());
        secrets.extend(
            self.app_webhook
                .iter()
                .flat_map(AppWebhookSettings::secrets),
        );
        secrets.extend(self.app.session_secret.clone());
        secrets.extend(self.plain.as_ref().map(|plain| plain.token.clone()));
        secrets.extend(self.database.iter().flat_map(DatabaseUrl::passwords));
        secrets.extend(self.mail.iter().flat_map(MailSettings::passwords));
        secrets.retain(|secret| !secret.expose_secret().is_empty());
        secrets
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
