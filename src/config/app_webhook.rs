//! Where the application is called, and what its messages are signed with.

use jobs::app_webhook::{AppWebhookSettings, SigningKey};
use secrecy::ExposeSecret;

use super::{ConfigError, Environment, secret};

const EXAMPLE: &str = "https://app.example/polar-jobs";
const BOTH: &str = "both APP_WEBHOOK_URL and APP_WEBHOOK_SECRET, or neither (the application is not told of changes)";

pub(super) fn read(environment: &Environment) -> Result<Option<AppWebhookSettings>, ConfigError> {
    let url = environment.web_address("APP_WEBHOOK_URL", EXAMPLE)?;
    let secrets = secret::list(environment, "APP_WEBHOOK_SECRET")?;
    let keys = secrets
        .iter()
        .map(|secret| SigningKey::parse(secret.expose_secret()));
    let keys: Option<Vec<SigningKey>> = keys.collect();
    let keys = keys.ok_or_else(|| {
        ConfigError::new(
            "APP_WEBHOOK_SECRET",
            "is no secret of Standard Webhooks",
            "whsec_ and 24 to 64 random bytes in base64, as in whsec_$(openssl rand -base64 32); several separated by blanks or commas",
        )
    })?;
    match (url, keys.is_empty()) {
        (Some(url), false) => Ok(Some(AppWebhookSettings { url, keys })),
        (None, true) => Ok(None),
        (Some(_), true) => Err(ConfigError::missing("APP_WEBHOOK_SECRET", BOTH)),
        (None, false) => Err(ConfigError::missing("APP_WEBHOOK_URL", BOTH)),
    }
}
