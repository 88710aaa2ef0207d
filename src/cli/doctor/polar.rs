//! Polar itself: the token, what it may do, and the endpoint that delivers to us.

use std::sync::Arc;

use polar::{
    CallClass, Client, CustomerRef, CustomerUpdate, Error, MemberUpdate, OpenGate, WebhookEndpoint,
};
use uuid::Uuid;

use super::super::process::client_config;
use super::Finding;
use crate::config::{Billing, PolarSettings};
use crate::ingress::handled_events;

const ROUTE: &str = "/integrations/polar/webhook";

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
    let asked = client.organizations().get(billing.organization.into());
    let answer = asked.await;
    let further = matches!(
        answer,
        Ok(_) | Err(Error::Forbidden { .. } | Error::NotFound { .. })
    );
    findings.push(match answer {
        Ok(organization) => {
            let what = format!("the token speaks for {}", organization.slug);
            Finding::ok("polar", what)
        }
        Err(error) => refused(&error),
    });
    further
}

fn refused(error: &Error) -> Finding {
    match error {
        Error::Forbidden { .. } => {
            let what = "the token works; it may not read its organization, which no job needs";
            Finding::ok("polar", what)
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

/// Which scopes the token lacks.
async fn scopes(client: &Client) -> Finding {
    let missing: Vec<String> = probe(client)
        .await
        .into_iter()
        .filter_map(|(scope, error)| match error {
            Some(Error::Forbidden { scope: named, .. }) => {
                Some(named.unwrap_or_else(|| scope.to_owned()))
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

/// Asks for things that do not exist: "not found" needs the scope, "forbidden" is the lack of it.
/// Nothing is changed by that.
async fn probe(client: &Client) -> [(&'static str, Option<Error>); 6] {
    let nobody = Uuid::new_v4().to_string();
    let theirs = CustomerRef::External(&nobody);
    let (customers, members) = (client.customers(), client.members());
    let (customer, member) = (CustomerUpdate::default(), MemberUpdate::default());
    let read = customers.get_by_external_id(&nobody).await.err();
    let written = customers
        .update_by_external_id(&nobody, &customer)
        .await
        .err();
    let member_read = members.get(&nobody, &nobody).await.err();
    let member_written = members.update(&nobody, &nobody, &member).await.err();
    let subscriptions = client.subscriptions().all(theirs).await.err();
    let grants = client.benefit_grants().active(theirs).await.err();
    [
        ("customers:read", read),
        ("customers:write", written),
        ("members:read", member_read),
        ("members:write", member_written),
        ("subscriptions:read", subscriptions),
        ("benefits:read", grants),
    ]
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
    // Without one of these we hear of its changes only from the nightly comparison.
    let missing: Vec<&str> = handled_events()
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
