//! Where Polar is, who we are there, and how often we may call.

use std::num::NonZeroU32;

use reqwest::Url;
use secrecy::SecretString;
use uuid::Uuid;

use super::{ConfigError, Environment, secret};
use crate::limiter::Limits;

/// Everything about Polar.
#[derive(Clone, Debug)]
pub struct PolarSettings {
    /// Who we are; `None` = billing off.
    pub billing: Option<Billing>,
    /// Secrets of webhook deliveries; each one is accepted. Empty: no delivery is taken.
    pub webhook_secrets: Vec<SecretString>,
    /// Where Polar is.
    pub api_url: Url,
    /// Sent as `Polar-Version`.
    pub api_version: String,
    /// Calls per minute for the whole fleet, and at once for this process.
    pub limits: Limits,
    /// The product of the startup program.
    pub scale_product: Option<Uuid>,
}

/// Our own organization at Polar and the token that speaks for it.
#[derive(Clone, Debug)]
pub struct Billing {
    /// An organization access token.
    pub access_token: SecretString,
    /// The organization that owns the plans: never synced as a customer, never metered.
    pub organization: Uuid,
}

pub(super) fn read(environment: &Environment) -> Result<PolarSettings, ConfigError> {
    Ok(PolarSettings {
        billing: billing(environment)?,
        webhook_secrets: secret::list(environment, "POLAR_WEBHOOK_SECRET")?,
        api_url: api_url(environment)?,
        api_version: api_version(environment)?,
        limits: limits(environment)?,
        scale_product: uuid(environment, "POLAR_SCALE_PRODUCT_ID")?,
    })
}

/// Where Polar's routes begin. Each names its version itself.
fn api_url(environment: &Environment) -> Result<Url, ConfigError> {
    let url = environment.web_address_or("POLAR_API_URL", "https://api.polar.sh")?;
    if url.path().trim_end_matches('/').ends_with("/v1") {
        return Err(ConfigError::new(
            "POLAR_API_URL",
            "ends in /v1, which every call adds itself",
            "the address without /v1, such as https://api.polar.sh",
        ));
    }
    Ok(url)
}

fn limits(environment: &Environment) -> Result<Limits, ConfigError> {
    let read = |variable, default, highest| {
        let number: u32 = environment.whole_number(variable, default, 1..=highest)?;
        Ok::<_, ConfigError>(NonZeroU32::new(number).expect("the bounds begin at 1"))
    };
    Ok(Limits {
        per_window: read("POLAR_RATE_LIMIT", 400, 1_000_000)?,
        in_flight: read("POLAR_CALLS_IN_FLIGHT", 16, 1_000)?,
    })
}

/// Half a configuration would bill our own organization or nobody, so it is refused.
fn billing(environment: &Environment) -> Result<Option<Billing>, ConfigError> {
    const BOTH: &str =
        "both POLAR_ACCESS_TOKEN and POLAR_ORGANIZATION_ID, or neither (billing off)";
    let token = secret::token(environment, "POLAR_ACCESS_TOKEN")?;
    match (token, uuid(environment, "POLAR_ORGANIZATION_ID")?) {
        (Some(access_token), Some(organization)) => Ok(Some(Billing {
            access_token,
            organization,
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::missing("POLAR_ORGANIZATION_ID", BOTH)),
        (None, Some(_)) => Err(ConfigError::missing("POLAR_ACCESS_TOKEN", BOTH)),
    }
}

/// The version is a date, or a word such as `next`; it travels in a header.
fn api_version(environment: &Environment) -> Result<String, ConfigError> {
    let version = environment
        .text("POLAR_API_VERSION")?
        .unwrap_or(polar::API_VERSION);
    let plain =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
    if version.len() <= 32 && version.chars().all(plain) {
        Ok(version.to_owned())
    } else {
        Err(ConfigError::new(
            "POLAR_API_VERSION",
            "is not a version",
            "a version such as 2026-04",
        ))
    }
}

fn uuid(environment: &Environment, variable: &'static str) -> Result<Option<Uuid>, ConfigError> {
    let Some(text) = environment.text(variable)? else {
        return Ok(None);
    };
    let id = Uuid::try_parse(text).map_err(|_| {
        ConfigError::new(
            variable,
            "is not a UUID",
            "a UUID such as 1dbfc517-0bbf-4301-9ba8-555ca42b9737",
        )
    })?;
    Ok(Some(id))
}
