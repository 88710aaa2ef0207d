//! The clients of a process, made of its settings: Polar's, each behind the rate limiter that suits who calls, the
//! support desk's and the application's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jobs::app_webhook::AppWebhook;
use jobs::contract::{Settings, SupportDesk};
use polar::{BuildError, CallClass, RateLimiter};
use sqlx::PgPool;

use super::Failure;
use crate::config::{Billing, Config, PolarSettings};
use crate::ingress::required_events;
use crate::limiter::{FleetRateLimiter, Limits, Timing};

/// The longest that one call to Polar may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for people who wait, so that two in a row are answered within 10 s.
const API_CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// How long such a call waits for budget.
const API_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest that one call to Plain may take.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("polar-jobs/", env!("CARGO_PKG_VERSION"));

/// A client behind the fleet's rate limiter, for jobs; `None` while billing is off.
pub(crate) fn polar_client(
    settings: &PolarSettings,
    pool: &PgPool,
) -> Result<Option<polar::Client>, Failure> {
    let limiter = |pool, limits| FleetRateLimiter::new(pool, limits, Timing::PRODUCTION);
    limited_client(settings, pool, limiter, CALL_TIMEOUT)
}

/// The same for a command, whose token may be another than the workers': what Polar says of it pauses nobody;
/// see [`refused_here`].
pub(crate) fn command_client(
    settings: &PolarSettings,
    pool: &PgPool,
) -> Result<Option<polar::Client>, Failure> {
    let limiter = |pool, limits| FleetRateLimiter::for_command(pool, limits, Timing::PRODUCTION);
    limited_client(settings, pool, limiter, CALL_TIMEOUT)
}

/// The same as [`polar_client`] for requests of people, who do not wait: a call is made within a second or
/// not at all.
pub(crate) fn api_client(
    settings: &PolarSettings,
    pool: &PgPool,
) -> Result<Option<polar::Client>, Failure> {
    let timing = Timing {
        acquire_timeout: API_ACQUIRE_TIMEOUT,
        ..Timing::PRODUCTION
    };
    let limiter = |pool, limits| FleetRateLimiter::new(pool, limits, timing);
    limited_client(settings, pool, limiter, API_CALL_TIMEOUT)
}

fn limited_client(
    settings: &PolarSettings,
    pool: &PgPool,
    limiter: impl FnOnce(PgPool, Limits) -> FleetRateLimiter,
    call_timeout: Duration,
) -> Result<Option<polar::Client>, Failure> {
    let Some(billing) = &settings.billing else {
        return Ok(None);
    };
    let limiter = limiter(pool.clone(), settings.limits);
    let config = polar::ClientConfig {
        timeout: call_timeout,
        ..client_config(settings, billing)
    };
    let client =
        polar::Client::new(config, Arc::new(limiter)).context("no client for Polar can be made")?;
    Ok(Some(client))
}

/// A client for the few calls of a person who looks at Polar, which do not wait in the fleet's queue.
pub(crate) fn probe_client(
    settings: &PolarSettings,
    billing: &Billing,
    limiter: Arc<dyn RateLimiter>,
) -> Result<polar::Client, BuildError> {
    let client = polar::Client::new(client_config(settings, billing), limiter)?;
    Ok(client.with_class(CallClass::Probe))
}

fn client_config(settings: &PolarSettings, billing: &Billing) -> polar::ClientConfig {
    polar::ClientConfig {
        base_url: settings.api_url.as_str().trim_end_matches('/').to_owned(),
        access_token: billing.access_token.clone(),
        version: settings.api_version.clone(),
        timeout: CALL_TIMEOUT,
        user_agent: USER_AGENT.to_owned(),
    }
}

/// Why a command ends that cannot do without Polar.
pub(crate) fn billing_off() -> Failure {
    Failure::usage("billing is off: POLAR_ACCESS_TOKEN and POLAR_ORGANIZATION_ID are not set")
}

/// Why a command ends whose token Polar refuses, or that lacks a scope; `None` for any other error.
pub(crate) fn refused_here(error: &jobs::Error) -> Option<Failure> {
    match error {
        jobs::Error::Polar(polar::Error::Unauthorized { .. }) => Some(Failure::failed(
            "Polar refuses POLAR_ACCESS_TOKEN of this shell; the workers may have another",
        )),
        jobs::Error::Polar(polar::Error::MissingScope { scope, .. }) => Some(Failure::failed(
            format!("POLAR_ACCESS_TOKEN of this shell lacks the scope {scope}"),
        )),
        _ => None,
    }
}

/// Why a command ends whose call to Polar failed.
pub(crate) fn call_failed(error: jobs::Error) -> Failure {
    refused_here(&error).unwrap_or_else(|| Failure::Failed(error.into()))
}

/// What jobs need to know of the configuration, and their clients for everybody but Polar.
pub(crate) fn job_settings(config: &Config) -> Result<Settings, Failure> {
    let app_webhook = config.app_webhook.clone().map(AppWebhook::new).transpose();
    Ok(Settings {
        self_organization: config.self_organization(),
        platform_fees: config.platform_fees,
        early_fees: config.early_fees,
        app_webhook: app_webhook.context("no client for APP_WEBHOOK_URL can be made")?,
        support_desk: support_desk(config)?,
        webhook_events: required_events(config.mail.is_some()),
    })
}

/// The support desk; `None` without `PLAIN_TOKEN`.
pub(crate) fn support_desk(config: &Config) -> Result<Option<SupportDesk>, Failure> {
    let Some(settings) = &config.plain else {
        return Ok(None);
    };
    let client = plain::Client::new(plain::ClientConfig {
        api_url: settings.api_url.clone(),
        token: settings.token.clone(),
        timeout: PLAIN_TIMEOUT,
        delays: plain::Delays::PRODUCTION,
        user_agent: USER_AGENT.to_owned(),
    })
    .context("no client for the support desk can be made")?;
    Ok(Some(SupportDesk {
        client,
        default_tier: settings.default_tier.clone(),
    }))
}
