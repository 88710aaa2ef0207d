//! The application's side of the demo scenario: changes posted to the real ingress.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

/// Posts changes as an application does.
pub(super) struct Application {
    http: Client,
    url: String,
    token: SecretString,
    run: Uuid,
    posted: u32,
}

impl Application {
    pub(super) fn new(base: &str, token: SecretString, run: Uuid) -> anyhow::Result<Self> {
        // A machine without certificates can still reach its own ingress.
        let http = Client::builder()
            .timeout(Duration::from_secs(10))
            .tls_certs_only([])
            .build()?;
        Ok(Self {
            http,
            url: format!("{base}/changes"),
            token,
            run,
            posted: 0,
        })
    }

    /// Posts changes as one request: all are stored, or none.
    pub(super) async fn tell(
        &mut self,
        changes: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> anyhow::Result<()> {
        let changes: Vec<Value> = changes
            .into_iter()
            .map(|(kind, data)| {
                self.posted += 1;
                json!({"id": format!("dev-{}-{}", self.run, self.posted), "type": kind, "data": data})
            })
            .collect();
        let answer = self
            .http
            .post(&self.url)
            .bearer_auth(self.token.expose_secret())
            .json(&json!({ "changes": changes }))
            .send()
            .await
            .context("the ingress does not answer")?;
        let status = answer.status();
        if status != StatusCode::ACCEPTED {
            bail!(
                "the ingress answered {status}: {}",
                answer.text().await.unwrap_or_default()
            );
        }
        Ok(())
    }
}
