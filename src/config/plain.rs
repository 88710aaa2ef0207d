//! The support desk, Plain.

use reqwest::Url;
use secrecy::SecretString;

use super::{ConfigError, Environment, secret};

/// Plain's own full GraphQL endpoint.
const PLAIN: &str = "https://core-api.uk.plain.com/graphql/v1";

/// How to reach the support desk.
#[derive(Clone, Debug)]
pub struct PlainSettings {
    /// An API key.
    pub token: SecretString,
    /// The full GraphQL endpoint.
    pub api_url: Url,
    /// The tier of a tenant that has none.
    pub default_tier: Option<String>,
}

pub(super) fn read(environment: &Environment) -> Result<Option<PlainSettings>, ConfigError> {
    let api_url = environment.web_address_or("PLAIN_API_URL", PLAIN)?;
    let default_tier = environment
        .text("PLAIN_DEFAULT_TIER_EXTERNAL_ID")?
        .map(str::to_owned);
    let token = secret::token(environment, "PLAIN_TOKEN")?;
    Ok(token.map(|token| PlainSettings {
        token,
        api_url,
        default_tier,
    }))
}
