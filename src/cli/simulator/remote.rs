//! The way to a simulator that runs elsewhere: where it is, and how it is asked.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reqwest::{Client, Method, Url};
use serde_json::Value;

use super::super::dev;
use super::super::{AppContext, Failure};
use crate::config::Environment;

/// A moved clock lets months of renewals happen before it answers.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where the simulator is.
#[derive(Args)]
pub(super) struct Target {
    /// The simulator's address; without it `POLAR_API_URL`, then what `dev` wrote into ./var, then the port of `simulator`
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
}

/// A running simulator.
pub(super) struct Remote {
    http: Client,
    base: Url,
}

impl Remote {
    /// Finds its address; nothing is asked yet.
    pub(super) fn find(target: &Target, app: &AppContext) -> Result<Self, Failure> {
        // Fails only where somebody installed one before, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Its address is this machine's; certificates, which may be missing here, play no role.
        let http = Client::builder()
            .timeout(TIMEOUT)
            .tls_certs_only([])
            .no_proxy()
            .build()
            .context("no HTTP client can be made")?;
        let base = match &target.url {
            Some(url) => url.clone(),
            None => address(app)?,
        };
        Ok(Self { http, base })
    }

    /// What a route of the control surface shows.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, &Value::Null).await
    }

    /// Lets something happen.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = self
            .http
            .request(method, format!("{base}/simulator/{path}"));
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|_| self.is_no_simulator("does not answer"))?;
        let status = answer.status();
        let body = answer.json::<Value>().await.unwrap_or_default();
        match (status.is_success(), body["error"].as_str()) {
            (true, _) if !body.is_null() => Ok(body),
            (false, Some(refusal)) => Err(Failure::failed(refusal)),
            _ => Err(self.is_no_simulator(&format!("answers {status}, which no simulator does"))),
        }
    }

    fn is_no_simulator(&self, what: &str) -> Failure {
        Failure::failed(format!(
            "{} {what}: start `polar-jobs simulator` or `polar-jobs dev`, or name its address with --url",
            self.base
        ))
    }
}

/// The real Polar is never asked: it is reached by https only, and a simulator never is.
fn address(app: &AppContext) -> Result<Url, Failure> {
    let configured = &app.config.polar.api_url;
    if configured.scheme() == "http" {
        return Ok(configured.clone());
    }
    let written = Environment::of_file(&dev::settings_path(Path::new("./var")))?;
    let text = match written.text("POLAR_API_URL")? {
        Some(text) => text.to_owned(),
        None => format!("http://127.0.0.1:{}", super::DEFAULT_PORT),
    };
    Ok(Url::parse(&text).context("the address that `dev` wrote is none")?)
}
