//! A test, `dev` and the command line hold the simulator by this handle: start it, move its clock, let things
//! happen, look inside.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::faults::Faults;
use crate::http::access::Credentials;
use crate::http::armed::{Armed, Intervention};
use crate::http::connection::{Cord, CordedListener};
use crate::http::hold::{HeldRequests, RequestMatch};
use crate::http::outages::Gateway;
use crate::http::server;
use crate::http::shared::Shared;
use crate::options::Options;
use crate::webhooks::dispatch;
use crate::world::invoices::InvoiceFault;

/// Why a simulator does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; choose another port")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The client that sends deliveries cannot be made.
    #[error("cannot make the client for deliveries: {0}")]
    Client(String),
}

/// A running local Polar. Dropping it stops it.
#[derive(Debug)]
pub struct Simulator {
    pub(crate) shared: Arc<Shared>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Simulator {
    /// Starts a simulator on `bind`; port 0 picks a free one.
    ///
    /// # Errors
    /// The address cannot be bound, or no HTTP client can be made.
    pub async fn start(options: Options, bind: SocketAddr) -> Result<Self, StartError> {
        let refused = |source| StartError::Bind {
            address: bind,
            source,
        };
        let listener = TcpListener::bind(bind).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let shared = Arc::new(Shared::new(&options, delivery_client()?));
        let router = Router::new()
            .fallback(server::handle)
            .with_state(Arc::clone(&shared));
        let service = router.into_make_service_with_connect_info::<Cord>();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(CordedListener(listener), service).await {
                tracing::error!(%error, "the simulator stopped listening");
            }
        });
        tasks.spawn(dispatch::deliver_in_order(Arc::clone(&shared)));
        tasks.spawn(dispatch::run_timed(Arc::clone(&shared)));
        Ok(Self {
            shared,
            address,
            _tasks: tasks,
        })
    }

    /// The base address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The token that calls must carry.
    #[must_use]
    pub fn access_token(&self) -> &str {
        &self.shared.access_token
    }

    /// What deliveries are signed with from the start.
    #[must_use]
    pub fn webhook_secret(&self) -> &str {
        &self.shared.first_secret
    }

    /// The self organization.
    #[must_use]
    pub fn organization_id(&self) -> Uuid {
        self.shared.organization_id
    }

    /// Makes another token known, with these scopes only; `doctor` and error handling are tried with it.
    pub fn add_token(&self, token: &str, scopes: &[&str]) {
        let scopes = Some(scopes.iter().map(|scope| (*scope).to_owned()).collect());
        self.shared.access.add_token(
            token,
            Credentials::Known {
                foreign: false,
                scopes,
            },
        );
    }

    /// Makes a token of another organization known: it sees nothing of ours.
    pub fn add_foreign_token(&self, token: &str) {
        self.shared.access.add_token(
            token,
            Credentials::Known {
                foreign: true,
                scopes: None,
            },
        );
    }

    /// Makes a token unknown, as a revocation does: 401 from now on.
    pub fn revoke_token(&self, token: &str) {
        self.shared.access.revoke_token(token);
    }

    /// Takes scopes from the first token; a route that takes one of several scopes is closed when all of them are taken.
    /// [`Simulator::restore_token`] gives them back.
    pub fn withdraw_scopes(&self, scopes: &[&str]) {
        self.shared.withdraw_scopes(scopes);
    }

    /// Lets every call about one customer fail with 500, by the application's id or Polar's, until
    /// [`Simulator::fail_nobody`]. Batches of events are about no single customer and go through.
    pub fn fail_customer(&self, id: &str) {
        self.shared.outages.fail(id, 500, None);
    }

    /// Ends what [`Simulator::fail_customer`] began.
    pub fn fail_nobody(&self) {
        self.shared.outages.fail_nobody();
    }

    /// Lets a gateway answer in place of Polar; `None` takes it away.
    pub fn set_gateway(&self, gateway: Option<Gateway>) {
        self.shared.outages.set_gateway(gateway);
    }

    /// Lets something be wrong with invoices; `None` repairs it.
    pub fn set_invoice_fault(&self, fault: Option<InvoiceFault>) {
        self.shared.lock().invoice_fault = fault;
    }

    /// Lets somebody else do something during the next request that matches, once.
    pub fn arm(&self, matching: RequestMatch, intervention: Intervention) -> Armed {
        self.shared.interventions.arm(matching, intervention)
    }

    /// Makes a revoked token good again, with all scopes.
    pub fn restore_token(&self, token: &str) {
        self.shared.access.add_token(
            token,
            Credentials::Known {
                foreign: false,
                scopes: None,
            },
        );
    }

    /// Registers and enables the endpoint; `None` disables it.
    pub fn set_webhook_url(&self, url: Option<String>) {
        self.shared.register(url);
    }

    /// Whether an endpoint is registered and enabled.
    #[must_use]
    pub fn endpoint_enabled(&self) -> bool {
        self.shared
            .lock()
            .outbox
            .endpoints
            .iter()
            .any(|row| row.enabled && !row.deleted)
    }

    /// Changes the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().outbox.faults = faults;
    }

    /// The simulated time.
    #[must_use]
    pub fn clock(&self) -> DateTime<Utc> {
        self.shared.lock().now()
    }

    /// Moves the simulated clock forward; renewals, period ends and due deliveries happen on the way, in order. A negative
    /// span moves nothing.
    pub async fn advance(&self, by: TimeDelta) {
        if let Ok(by) = by.to_std() {
            self.shared.advance(by).await;
        }
    }

    /// Waits until every delivery was answered 2xx, finally failed or was skipped; false when `timeout` runs out.
    pub async fn deliveries_finished(&self, timeout: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            if self.shared.lock().deliveries_finished() {
                return true;
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Holds matching requests until they are released.
    #[must_use = "dropping it releases the requests"]
    pub fn hold(&self, matching: RequestMatch) -> HeldRequests {
        self.shared.holds.add(matching)
    }

    /// Sends a delivery again, as the dashboard's button does; false for an unknown id.
    pub fn redeliver(&self, webhook_id: Uuid) -> bool {
        self.shared.lock().redeliver(webhook_id)
    }
}

/// Deliveries go to this machine, in the clear; no root certificates are trusted.
fn delivery_client() -> Result<reqwest::Client, StartError> {
    let failed = |error: &dyn std::error::Error| StartError::Client(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy();
    client
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| failed(&error))
}
