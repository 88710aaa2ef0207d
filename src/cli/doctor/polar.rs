//! Polar itself: the token, what it may do, and the endpoint that delivers to us.

use std::sync::Arc;

use polar::{CallClass, Client, CustomerUpdate, Error, MemberUpdate, OpenGate, WebhookEndpoint};
use uuid::Uuid;

use super::super::process::client_config;
use super::Finding;
use crate::config::{Billing, PolarSettings};

const ROUTE: &str = "/integrations/polar/webhook";

/// Without these deliveries we hear of changes only from the nightly comparison.
const NEEDED: [&str; 9] = [
    "benefit_grant.created",
    "benefit_grant.revoked",
    "benefit_grant.updated",
    "benefit.updated",
    "order.created",
    "subscription.canceled",
    "subscription.past_due",
    "subscription.revoked",
    "subscription.updated",
];

pub(super) async fn check(settings: &PolarSettings, findings: &mut Vec<Finding>) {
    let Some(billing) = &settings.billing else {
        return;
    };
    let config = client_config(settings, billing.access_token.clone());
    // A person's look does not wait in the fleet's queue.
    match Client::new(config, Arc::new(OpenGate)) {
        Err(error) => findings.push(Finding::error(
            "polar",
            error.to_string(),
            "mend POLAR_API_URL or POLAR_ACCESS_TOKEN",
        )),
        Ok(client) => {
            let client = client.with_class(CallClass::Probe);
            if token(&client, billing, findings).await {
                findings.push(scopes(&client).await);
                endpoint(&client, findings).await;
            }
        }
    }
}

/// Whether it is worth asking further.
async fn token(client: &Client, billing: &Billing, findings: &mut Vec<Finding>) -> bool {
    let answer = client
        .organizations()
        .get(billing.organization.into())
        .await;
    let (finding, further) = match answer {
        Ok(organization) => (
            Finding::ok(
                "polar",
                format!("the token speaks for {}", organization.slug),
            ),
            true,
        ),
        Err(Error::Forbidden { .. }) => {
            let what = "the token works; it may not read its organization, which no job needs";
            (Finding::ok("polar", what), true)
        }
        Err(error @ Error::Unauthorized { .. }) => (
            Finding::error(
                "polar",
                error.to_string(),
                "make a new token in Polar and set POLAR_ACCESS_TOKEN",
            ),
            false,
        ),
        Err(Error::NotFound { .. }) => {
            let what = "the token does not speak for the organization POLAR_ORGANIZATION_ID";
            (
                Finding::error(
                    "polar",
                    what,
                    "set the id of the organization that made the token",
                ),
                true,
            )
        }
        Err(error) => (
            Finding::error(
                "polar",
                error.to_string(),
                "see whether POLAR_API_URL answers",
            ),
            false,
        ),
    };
    findings.push(finding);
    further
}

/// Asks for things that do not exist: "not found" needs the scope, "forbidden" is the lack of it.
/// Nothing is changed by that.
async fn scopes(client: &Client) -> Finding {
    let nobody = Uuid::new_v4().to_string();
    let answers = [
        (
            "customers:read",
            client.customers().get_by_external_id(&nobody).await.err(),
        ),
        (
            "customers:write",
            client
                .customers()
                .update_by_external_id(&nobody, &CustomerUpdate::default())
                .await
                .err(),
        ),
        (
            "members:read",
            client.members().get(&nobody, &nobody).await.err(),
        ),
        (
            "members:write",
            client
                .members()
                .update(&nobody, &nobody, &MemberUpdate::default())
                .await
                .err(),
        ),
        (
            "subscriptions:read",
            client
                .subscriptions()
                .all(polar::CustomerRef::External(&nobody))
                .await
                .err(),
        ),
        (
            "benefits:read",
            client
                .benefit_grants()
                .active(polar::CustomerRef::External(&nobody))
                .await
                .err(),
        ),
    ];
    let missing: Vec<String> = answers
        .iter()
        .filter_map(|(scope, error)| match error {
            Some(Error::Forbidden { scope: named, .. }) => {
                Some(named.clone().unwrap_or_else(|| (*scope).to_owned()))
            }
            _ => None,
        })
        .collect();
    if missing.is_empty() {
        return Finding::ok(
            "scopes",
            "customers, members, subscriptions and grants can be reached",
        );
    }
    let what = format!("the token lacks {}", missing.join(", "));
    Finding::error("scopes", what, "give the token these scopes in Polar")
}

async fn endpoint(client: &Client, findings: &mut Vec<Finding>) {
    match client.webhook_endpoints().all().await {
        Ok(endpoints) => {
            let ours: Vec<&WebhookEndpoint> =
                endpoints.iter().filter(|endpoint| endpoint.url.trim_end_matches('/').ends_with(ROUTE)).collect();
            if ours.is_empty() {
                let what = format!("Polar has no endpoint that ends in {ROUTE}");
                findings.push(Finding::error("endpoint", what, "add one in Polar, format raw, with all events"));
            }
            findings.extend(ours.into_iter().map(judge));
        }
        Err(Error::Forbidden { .. }) => findings.push(Finding::warning(
            "endpoint",
            "the token may not read webhook endpoints, so nobody notices when Polar switches ours off",
            "give the token the scope webhooks:read",
        )),
        Err(error) => findings.push(Finding::warning("endpoint", error.to_string(), "try again")),
    }
}

fn judge(endpoint: &WebhookEndpoint) -> Finding {
    let url = &endpoint.url;
    let missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|event| !endpoint.events.iter().any(|subscribed| subscribed == event))
        .collect();
    if !endpoint.enabled {
        let what = format!("{url} is disabled: Polar delivers nothing and keeps nothing for later");
        Finding::error(
            "endpoint",
            what,
            "enable it in Polar, then look for what was missed",
        )
    } else if endpoint
        .format
        .as_deref()
        .is_some_and(|format| format != "raw")
    {
        Finding::error(
            "endpoint",
            format!("{url} has a format that cannot be verified"),
            "set its format to raw",
        )
    } else if !missing.is_empty() {
        let what = format!("{url} is not subscribed to {}", missing.join(", "));
        Finding::warning("endpoint", what, "subscribe it to these events in Polar")
    } else {
        Finding::ok("endpoint", format!("{url} is enabled"))
    }
}
