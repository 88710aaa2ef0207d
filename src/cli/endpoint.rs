//! `polar-jobs endpoint …`: our webhook endpoint at Polar.

mod rotation;

use std::sync::Arc;

use anyhow::Context;
use clap::Subcommand;
use jobs::contract::begin;
use jobs::mirror::webhook_endpoint;
use jobs::types::Timestamp;
use jobs::webhook_endpoints::{Deliveries, is_ours, missing_events};
use jobs::{NewJob, WEBHOOK_ROUTE, WatchEndpoint};
use polar::{EndpointUpdate, WebhookEndpoint};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::clients::{billing_off, probe_client};
use super::output::{self, Format};
use super::{AppContext, Exit, Failure, connect};
use crate::ingress::required_events;
use crate::limiter::SingleCalls;
use crate::operators::{self, OperatorAction};
use crate::queue::enqueue;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show our endpoints and what they lack
    Show {
        /// Columns for people, or one JSON array
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make an endpoint, unless there is one with this address, and print its secret once
    Create {
        /// Where the ingress is reached from outside, such as `https://app.example.com/integrations/polar/webhook`
        #[arg(long)]
        url: Url,
    },
    /// Enable our endpoint, subscribe it to every event that is handled, and ask for what was missed
    Enable {
        /// The endpoint's id, where there are several
        id: Option<Uuid>,
    },
    /// Change the secret without a gap: first a second endpoint, then the switch
    ///
    /// Without --finish: makes a second endpoint, disabled, and prints its secret. Add it to
    /// `POLAR_WEBHOOK_SECRET` beside the old one and restart the ingress; then run it with --finish.
    RotateSecret {
        /// Both secrets are deployed: try the ingress, enable the new endpoint, disable the old one
        #[arg(long)]
        finish: bool,
        /// Where the ingress is tried, if not at the endpoint's address
        #[arg(long, value_name = "URL", requires = "finish")]
        try_at: Option<Url>,
    },
}

/// An endpoint as it is shown.
#[derive(Serialize)]
struct Row {
    id: Uuid,
    url: String,
    enabled: bool,
    format: Option<String>,
    created_at: Option<Timestamp>,
    missing_events: Vec<&'static str>,
    last_delivery_at: Option<Timestamp>,
}

/// What every subcommand works with.
struct Endpoints<'a> {
    polar: polar::Client,
    pool: PgPool,
    app: &'a AppContext,
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let settings = &app.config.polar;
    let billing = settings.billing.as_ref().ok_or_else(billing_off)?;
    let pool = connect::pool(app.config.database()?, 2).await?;
    let calls = SingleCalls::new(pool.clone(), settings.limits);
    let polar = probe_client(settings, billing, Arc::new(calls))
        .context("no client for Polar can be made")?;
    let endpoints = Endpoints { polar, pool, app };
    match command {
        Command::Show { format } => endpoints.show(format).await,
        Command::Create { url } => endpoints.create(&url).await,
        Command::Enable { id } => endpoints.enable(id).await,
        Command::RotateSecret { finish: false, .. } => endpoints.begin_rotation().await,
        Command::RotateSecret { try_at, .. } => endpoints.finish_rotation(try_at).await,
    }
}

impl Endpoints<'_> {
    /// Everything at Polar that leads to us, oldest first.
    async fn ours(&self) -> Result<Vec<WebhookEndpoint>, Failure> {
        let all = self.polar.webhook_endpoints().all().await;
        let mut ours = all.map_err(anyhow::Error::from)?;
        ours.retain(is_ours);
        ours.sort_by_key(|endpoint| (endpoint.created_at, endpoint.id));
        Ok(ours)
    }

    async fn show(&self, format: Format) -> Result<Exit, Failure> {
        let mut connection = self.pool.acquire().await?;
        let last = webhook_endpoint::last_delivery(&mut connection).await?;
        let rows: Vec<Row> = self
            .ours()
            .await?
            .into_iter()
            .map(|endpoint| Row {
                missing_events: self.missing_events(&endpoint),
                id: endpoint.id.0,
                enabled: endpoint.enabled,
                format: endpoint.format,
                created_at: endpoint.created_at.map(Timestamp::from),
                url: endpoint.url,
                last_delivery_at: last.map(Timestamp::from),
            })
            .collect();
        output::list(format, HEADER, &rows, cells)?;
        if rows.is_empty() {
            let what = format!(
                "Polar has no endpoint that ends in {WEBHOOK_ROUTE}: run `polar-jobs endpoint create`"
            );
            return Err(Failure::failed(what));
        }
        Ok(Exit::Done)
    }

    async fn create(&self, url: &Url) -> Result<Exit, Failure> {
        let more = url.query().is_some() || url.fragment().is_some();
        if more || !url.path().ends_with(WEBHOOK_ROUTE) {
            return Err(Failure::usage(format!(
                "the ingress answers deliveries at {WEBHOOK_ROUTE} only: that is how the address ends"
            )));
        }
        // One that was made by hand may be written in another way.
        let same = |endpoint: &&WebhookEndpoint| {
            Url::parse(&endpoint.url).is_ok_and(|known| known == *url)
        };
        if let Some(known) = self.ours().await?.iter().find(same) {
            output::line(&format!(
                "{url} is there already: endpoint {}; where its secret is not at hand, `polar-jobs endpoint rotate-secret` makes a new one",
                known.id
            ))?;
            if !known.enabled || !self.missing_events(known).is_empty() {
                let what = "it is disabled or lacks events: run `polar-jobs endpoint enable`";
                output::line(what)?;
            }
            return Ok(Exit::Done);
        }
        self.record("endpoint create", json!({"url": url.as_str()}))
            .await?;
        let webhooks = self.polar.webhook_endpoints();
        let made = webhooks.create(url.as_str(), &self.required_events()).await;
        let made = made.map_err(anyhow::Error::from)?;
        output::line(&format!("endpoint {} made: {url}", made.endpoint.id))?;
        print_secret(made.into_secret())?;
        Ok(Exit::Done)
    }

    async fn enable(&self, id: Option<Uuid>) -> Result<Exit, Failure> {
        let ours = self.ours().await?;
        let chosen = match id {
            Some(id) => ours.iter().find(|endpoint| endpoint.id.0 == id),
            None => self.only_candidate(&ours)?,
        };
        let Some(endpoint) = chosen else {
            return Err(Failure::failed(
                "there is no such endpoint of ours at Polar; see `polar-jobs endpoint show`",
            ));
        };
        let target = json!({"endpoint": endpoint.id.0});
        self.record("endpoint enable", target).await?;
        self.note_gap(&ours).await?;
        self.switch_on(endpoint).await?;
        self.look_now().await?;
        output::line(&format!(
            "{} is enabled; what was missed is asked for",
            endpoint.url
        ))?;
        Ok(Exit::Done)
    }

    /// Written before anything is enabled: a look that comes afterwards finds all well, and nobody may have
    /// looked since Polar stopped delivering.
    async fn note_gap(&self, ours: &[WebhookEndpoint]) -> Result<(), Failure> {
        let found = Deliveries::of(ours.to_vec(), &self.required_events());
        let (enabled, missing) = (!found.delivering.is_empty(), found.missing_events);
        if enabled && missing.is_empty() {
            return Ok(());
        }
        self.note_deliveries(enabled, &missing).await
    }

    async fn note_deliveries(&self, enabled: bool, missing: &[String]) -> Result<(), Failure> {
        let mut transaction = begin(&self.pool).await?;
        webhook_endpoint::note(&mut transaction, enabled, missing).await?;
        Ok(transaction.commit().await?)
    }

    /// What was missed is looked for at once and not at the next tick.
    async fn look_now(&self) -> Result<(), Failure> {
        let mut connection = self.pool.acquire().await?;
        enqueue::insert(&mut connection, &NewJob::of(&WatchEndpoint {})).await?;
        Ok(())
    }

    /// The endpoint that is meant where none is named: the one there is, else the one that delivers.
    fn only_candidate<'e>(
        &self,
        ours: &'e [WebhookEndpoint],
    ) -> Result<Option<&'e WebhookEndpoint>, Failure> {
        let mut enabled = ours.iter().filter(|endpoint| endpoint.enabled);
        match (ours, enabled.next(), enabled.next()) {
            ([], ..) => Ok(None),
            ([only], ..) | (_, Some(only), None) => Ok(Some(only)),
            _ => Err(Failure::usage(
                "there are several endpoints of ours: name one by its id, see `polar-jobs endpoint show`",
            )),
        }
    }

    async fn switch_on(&self, endpoint: &WebhookEndpoint) -> Result<(), Failure> {
        let mut events = endpoint.events.clone();
        let missing = self.missing_events(endpoint);
        events.extend(missing.into_iter().map(str::to_owned));
        let update = EndpointUpdate {
            enabled: Some(true),
            events: Some(events),
        };
        self.update(endpoint, &update).await
    }

    async fn update(
        &self,
        endpoint: &WebhookEndpoint,
        update: &EndpointUpdate,
    ) -> Result<(), Failure> {
        let webhooks = self.polar.webhook_endpoints();
        let updated = webhooks.update(endpoint.id, update).await;
        updated.map_err(anyhow::Error::from)?;
        Ok(())
    }

    async fn disable(&self, endpoint: &WebhookEndpoint) -> Result<(), Failure> {
        let update = EndpointUpdate {
            enabled: Some(false),
            events: None,
        };
        self.update(endpoint, &update).await
    }

    /// What an endpoint of ours must be subscribed to.
    fn required_events(&self) -> Vec<&'static str> {
        required_events(self.app.config.mail.is_some())
    }

    /// What of it this one is not subscribed to, enabled or not.
    fn missing_events(&self, endpoint: &WebhookEndpoint) -> Vec<&'static str> {
        missing_events(endpoint, &self.required_events())
    }

    /// Written before Polar is asked: what was begun there is known even if this process stops.
    async fn record(&self, action: &'static str, detail: serde_json::Value) -> Result<(), Failure> {
        let mut connection = self.pool.acquire().await?;
        let action = OperatorAction::new(action, "endpoint").with(detail);
        operators::record(&mut connection, &self.app.actor, &action).await?;
        Ok(())
    }
}

/// On a line of its own, so that a program can take it.
fn print_secret(secret: SecretString) -> Result<(), Failure> {
    output::line("its secret, shown only now:")?;
    output::line(secret.expose_secret())
}

const HEADER: [&str; 6] = [
    "id",
    "url",
    "enabled",
    "format",
    "missing events",
    "last delivery (UTC)",
];

fn cells(row: &Row) -> [String; 6] {
    [
        row.id.to_string(),
        row.url.clone(),
        row.enabled.to_string(),
        row.format.clone().unwrap_or_default(),
        row.missing_events.join(" "),
        output::maybe_brief(row.last_delivery_at),
    ]
}
