//! Polar itself: the token, and the endpoint that delivers to us.

use std::sync::Arc;

use jobs::WEBHOOK_ROUTE;
use jobs::webhook_endpoints::{is_ours, missing_events};
use polar::{Client, Error, Organization, RateLimiter, RejectedReason, Unlimited, WebhookEndpoint};
use sqlx::PgPool;

use super::super::clients::probe_client;
use super::super::output::moment;
use super::{Finding, scopes};
use crate::config::Config;
use crate::ingress::required_events;
use crate::limiter::{self, SingleCalls};

/// `pool` is where the fleet's budget is, if it can be used.
pub(super) async fn check(config: &Config, pool: Option<PgPool>) -> Vec<Finding> {
    let settings = &config.polar;
    let Some(billing) = &settings.billing else {
        return Vec::new();
    };
    let limiter: Arc<dyn RateLimiter> = match pool {
        Some(pool) => Arc::new(SingleCalls::new(pool, settings.limits)),
        None => Arc::new(Unlimited),
    };
    let client = match probe_client(settings, billing, limiter) {
        Ok(client) => client,
        Err(error) => {
            let fix = "repair POLAR_API_URL or POLAR_ACCESS_TOKEN";
            return vec![Finding::error("polar", error.to_string(), fix)];
        }
    };
    let organization = client.organizations().get(billing.organization.into());
    let organization = organization.await;
    let mut findings = vec![token(&organization)];
    if let Ok(_) | Err(Error::MissingScope { .. } | Error::NotFound { .. }) = organization {
        findings.extend(scopes::check(&client, config).await);
        findings.extend(endpoint(&client, &required_events(config.mail.is_some())).await);
    }
    findings
}

fn token(organization: &Result<Organization, Error>) -> Finding {
    match organization {
        Ok(organization) => {
            let what = format!("the token speaks for {}", organization.slug);
            Finding::ok("polar", what)
        }
        Err(error) => refused(error),
    }
}

fn refused(error: &Error) -> Finding {
    match error {
        Error::MissingScope { .. } => {
            let what = "the token works; it may not read its organization, which no job needs";
            Finding::ok("polar", what)
        }
        Error::Rejected(rejected) => {
            let fix = match rejected.reason {
                RejectedReason::BudgetUnknown => {
                    "see whether the database is overloaded or a transaction holds locks; run doctor again then"
                }
                _ => "run doctor again then; the fleet's calls count for POLAR_RATE_LIMIT as well",
            };
            Finding::warning("polar", format!("not asked: {rejected}"), fix)
        }
        Error::Unauthorized { .. } => Finding::error(
            "polar",
            error.to_string(),
            "make a new token in Polar and set POLAR_ACCESS_TOKEN",
        ),
        Error::NotFound { .. } => Finding::error(
            "polar",
            "the token does not speak for the organization POLAR_ORGANIZATION_ID",
            "set the id of the organization that made the token",
        ),
        error => Finding::error(
            "polar",
            error.to_string(),
            "see whether POLAR_API_URL answers",
        ),
    }
}

/// Whether the fleet's calls go out, as the workers found it.
pub(super) async fn limiter(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    const ABOUT: &str = "limiter";
    let Some(status) = limiter::status(pool).await? else {
        return Ok(Finding::ok(ABOUT, "no worker has called Polar yet"));
    };
    let ahead = |at: Option<_>| at.filter(|at| *at > status.now);
    if let Some(since) = status.unauthorized_since {
        let next = status
            .next_probe_at
            .map(|at| format!(", next try {}", moment(at)))
            .unwrap_or_default();
        let what = format!(
            "Polar refuses the access token since {}; outward work stands still{next}",
            moment(since)
        );
        return Ok(Finding::error(
            "token",
            what,
            "put a good token into POLAR_ACCESS_TOKEN and restart the workers and the ingress",
        ));
    }
    if let Some(at) = ahead(status.breaker_probe_at) {
        let what = format!(
            "Polar is down, as a worker finds; its calls wait until the next try at {}",
            moment(at)
        );
        return Ok(Finding::error(
            "breaker",
            what,
            "see whether POLAR_API_URL answers; work resumes by itself",
        ));
    }
    Ok(match ahead(status.wait_until) {
        Some(until) => Finding::warning(
            ABOUT,
            format!("Polar asked everybody to wait until {}", moment(until)),
            "nothing to do; if it lasts, lower POLAR_RATE_LIMIT",
        ),
        None => Finding::ok(ABOUT, "calls to Polar may go out"),
    })
}

async fn endpoint(client: &Client, required: &[&str]) -> Vec<Finding> {
    let endpoints = match client.webhook_endpoints().all().await {
        Ok(endpoints) => endpoints,
        Err(Error::MissingScope { .. }) => {
            let what = "the token may not read webhook endpoints, so nobody notices when Polar switches ours off";
            let fix = "give the token the scope webhooks:read";
            return vec![Finding::warning("endpoint", what, fix)];
        }
        Err(error) => {
            return vec![Finding::warning("endpoint", error.to_string(), "try again")];
        }
    };
    let ours: Vec<&WebhookEndpoint> = endpoints.iter().filter(|one| is_ours(one)).collect();
    if ours.is_empty() {
        let what = format!("Polar has no endpoint that ends in {WEBHOOK_ROUTE}");
        let fix = format!(
            "run `polar-jobs endpoint create`, or add one in Polar, format raw, for {}",
            required.join(", ")
        );
        return vec![Finding::error("endpoint", what, fix)];
    }
    let delivers = |url: &str| ours.iter().any(|one| one.enabled && one.url == url);
    let is_replaced = |old: &WebhookEndpoint| {
        ours.iter()
            .any(|one| one.enabled && one.is_verifiable() && one.created_at > old.created_at)
    };
    // A rotation of the secret leaves one behind that is disabled.
    let judged = ours.iter().filter(|one| one.enabled || !delivers(&one.url));
    judged
        .map(|one| judge(one, required, is_replaced(one)))
        .collect()
}

fn judge(endpoint: &WebhookEndpoint, required: &[&str], is_replaced: bool) -> Finding {
    let url = &endpoint.url;
    // What an endpoint does not deliver we never hear of.
    let missing = missing_events(endpoint, required);
    if !endpoint.enabled && is_replaced {
        let what = format!("{url} is disabled, and a newer endpoint at another address delivers");
        let fix = format!(
            "delete endpoint {id} at Polar where the address is no longer used, or run `polar-jobs endpoint enable {id}`",
            id = endpoint.id
        );
        Finding::warning("endpoint", what, fix)
    } else if !endpoint.enabled {
        let what = format!("{url} is disabled: Polar delivers nothing and keeps nothing for later");
        Finding::error(
            "endpoint",
            what,
            "run `polar-jobs endpoint enable`, which also asks for what was missed",
        )
    } else if !endpoint.is_verifiable() {
        Finding::error(
            "endpoint",
            format!("{url} has a format that cannot be verified"),
            "set its format to raw",
        )
    } else if !missing.is_empty() {
        let what = format!("{url} is not subscribed to {}", missing.join(", "));
        Finding::error(
            "endpoint",
            what,
            "run `polar-jobs endpoint enable`, which subscribes it",
        )
    } else {
        Finding::ok("endpoint", format!("{url} is enabled"))
    }
}
