//! `polar-jobs endpoint rotate-secret`: another secret without a gap.
//!
//! Polar replaces a secret at once, without a time in which two are right. So a rotation makes a second
//! endpoint with the same address, whose secret is deployed beside the old one before it is enabled; for
//! a moment both deliver, which only means that some deliveries come twice.

use std::time::Duration;

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use polar::{WebhookEndpoint, WebhookEndpointId, webhook};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use super::super::{Exit, Failure, output};
use super::{Endpoints, print_secret};

/// The longest that the ingress may take to answer.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Polar gives an event up after less than an hour.
const UNDER_WAY: TimeDelta = TimeDelta::hours(1);
/// What was given up longer ago has been asked for again for a day.
const GIVEN_UP: TimeDelta = TimeDelta::hours(24);
/// Polar tries a delivery for the first time within a moment of its event.
const OVERLAP: Duration = Duration::from_secs(5);

impl Endpoints<'_> {
    /// Repeated after it was stopped half-way, it goes on where it was; the secret is printed again. A newer endpoint
    /// that delivers with a secret that is deployed is left alone: it may be a rotation that waits for its end, or
    /// somebody's second endpoint.
    pub(super) async fn begin_rotation(&self) -> Result<Exit, Failure> {
        let ours = self.ours().await?;
        let (current, begun) = rotation(&ours)?;
        let (id, secret) = match begun {
            Some(begun) => (begun.id, self.begun_before(current, begun).await?),
            None => self.make_second(current).await?,
        };
        output::line(&format!(
            "endpoint {id} is ready beside {} at {}, disabled until the rotation is finished",
            current.id, current.url
        ))?;
        print_secret(secret)?;
        output::line(
            "put it into POLAR_WEBHOOK_SECRET beside the old one, restart the ingress, then run `polar-jobs endpoint rotate-secret --finish`",
        )?;
        Ok(Exit::Done)
    }

    /// Returns the id of a second endpoint, and its secret. Polar enables what it makes; until the secret is deployed its
    /// deliveries would be refused.
    async fn make_second(
        &self,
        current: &WebhookEndpoint,
    ) -> Result<(WebhookEndpointId, SecretString), Failure> {
        let target = json!({"endpoint": current.id.0});
        self.record("endpoint rotate-secret", target).await?;
        let webhooks = self.polar.webhook_endpoints();
        let made = webhooks.create(&current.url, &self.required_events()).await;
        let made = made.map_err(anyhow::Error::from)?;
        if made.endpoint.enabled {
            self.disable(&made.endpoint).await?;
        }
        Ok((made.endpoint.id, made.into_secret()))
    }

    /// Returns the secret of a second endpoint that is there already, and disables it if it delivers.
    async fn begun_before(
        &self,
        current: &WebhookEndpoint,
        begun: &WebhookEndpoint,
    ) -> Result<SecretString, Failure> {
        let webhooks = self.polar.webhook_endpoints();
        let found = webhooks.get_with_secret(begun.id).await;
        let found = found.map_err(anyhow::Error::from)?;
        let enabled = found.endpoint.enabled;
        let secret = found.into_secret();
        if !enabled {
            return Ok(secret);
        }
        if self.is_deployed(&secret) {
            return Err(both_deliver(current, begun));
        }
        let target = json!({"endpoint": current.id.0, "disables": begun.id.0});
        self.record("endpoint rotate-secret", target).await?;
        self.disable(begun).await?;
        Ok(secret)
    }

    /// As far as the settings of this command say it.
    fn is_deployed(&self, secret: &SecretString) -> bool {
        let deployed = self.app.config.polar.webhook_secrets.iter();
        deployed
            .map(ExposeSecret::expose_secret)
            .any(|known| known == secret.expose_secret())
    }

    pub(super) async fn finish_rotation(&self, try_at: Option<Url>) -> Result<Exit, Failure> {
        let ours = self.ours().await?;
        let (old, Some(new)) = rotation(&ours)? else {
            return Err(Failure::failed(
                "no rotation was begun: run `polar-jobs endpoint rotate-secret` first",
            ));
        };
        let webhooks = self.polar.webhook_endpoints();
        let secret = webhooks.get_with_secret(new.id).await;
        let secret = secret.map_err(anyhow::Error::from)?.into_secret();
        let url = match try_at {
            Some(url) => url,
            None => Url::parse(&new.url).context("the endpoint has no usable address")?,
        };
        try_ingress(url, &secret).await?;
        let target = json!({"enables": new.id.0, "disables": old.id.0});
        self.record("endpoint rotate-secret --finish", target)
            .await?;
        let since = Utc::now() - GIVEN_UP;
        let attempts = webhooks.failed_attempts(old.id, since).await;
        let attempts = attempts.map_err(anyhow::Error::from)?;
        let is_any_given_up = attempts.iter().any(|one| one.event.is_given_up());
        self.note_gap(&ours).await?;
        self.switch_on(new).await?;
        // Disabled, the old one would forget what it still has to deliver: what was made a moment before, and what failed.
        output::line("both endpoints deliver for a moment")?;
        tokio::time::sleep(OVERLAP).await;
        let since = Utc::now() - UNDER_WAY;
        let attempts = webhooks.failed_attempts(old.id, since).await;
        let attempts = attempts.map_err(anyhow::Error::from)?;
        let under_way = attempts.iter().any(|one| one.event.is_under_way());
        if under_way {
            return Err(Failure::failed(
                "both endpoints are enabled: the old one still has deliveries under way; run --finish again in a few minutes",
            ));
        }
        if is_any_given_up {
            // As with a secret that was wrong: disabled, the old one can be asked for them no more.
            self.note_deliveries(false, &[]).await?;
        }
        self.disable(old).await?;
        self.look_now().await?;
        output::line(&format!(
            "endpoint {} delivers, {} is disabled; its secret may be taken out of POLAR_WEBHOOK_SECRET",
            new.id, old.id
        ))?;
        Ok(Exit::Done)
    }
}

/// The endpoint whose secret is in use, and the newer one that a rotation made beside it, if it did.
fn rotation(
    ours: &[WebhookEndpoint],
) -> Result<(&WebhookEndpoint, Option<&WebhookEndpoint>), Failure> {
    let Some(current) = ours.iter().find(|endpoint| endpoint.enabled) else {
        return Err(Failure::failed(
            "no endpoint of ours is enabled: run `polar-jobs endpoint create` or `endpoint enable`",
        ));
    };
    let is_elsewhere =
        |endpoint: &&WebhookEndpoint| endpoint.enabled && endpoint.url != current.url;
    if let Some(elsewhere) = ours.iter().find(is_elsewhere) {
        return Err(Failure::failed(format!(
            "endpoints {} at {} and {} at {} both deliver: disable the one that is no longer needed at Polar, then run this again",
            current.id, current.url, elsewhere.id, elsewhere.url
        )));
    }
    let is_newer = |endpoint: &&WebhookEndpoint| {
        endpoint.url == current.url && endpoint.created_at > current.created_at
    };
    Ok((current, ours.iter().rfind(is_newer)))
}

fn both_deliver(current: &WebhookEndpoint, newer: &WebhookEndpoint) -> Failure {
    Failure::failed(format!(
        "endpoints {} and {} both deliver, and the secret of the newer one is in POLAR_WEBHOOK_SECRET; nothing was changed: \
         run `polar-jobs endpoint rotate-secret --finish` to go on with the newer one alone, or disable one at Polar",
        current.id, newer.id
    ))
}

/// A signed request of a type that nothing handles, as Polar would send it.
async fn try_ingress(url: Url, secret: &SecretString) -> Result<(), Failure> {
    let (id, timestamp) = (Uuid::new_v4().to_string(), Utc::now().timestamp());
    let body = json!({"type": "polar_jobs.endpoint_tried", "timestamp": Utc::now(), "data": {}});
    let body = body.to_string();
    let mut client = reqwest::Client::builder().timeout(TRIAL_TIMEOUT);
    if url.scheme() == "http" {
        // An ingress on this machine must be reached without certificates.
        client = client.tls_certs_only([]);
    }
    let request = client
        .build()
        .context("no HTTP client can be made")?
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp)
        .header(
            "webhook-signature",
            webhook::sign(secret, &id, timestamp, body.as_bytes()),
        )
        .body(body);
    let answer = request
        .send()
        .await
        .context("the ingress does not answer")?;
    match answer.status().as_u16() {
        202 => Ok(()),
        401 => Err(Failure::failed(
            "the ingress does not take the new secret yet: add it to POLAR_WEBHOOK_SECRET and restart the ingress; nothing was changed",
        )),
        status => Err(Failure::failed(format!(
            "the ingress answered {status} to a signed request; nothing was changed"
        ))),
    }
}
