//! The support desk, Plain, is tried without an account as well. A local one on a port of its own, so that it can be
//! down while Polar is up: the six operations over GraphQL, refusals inside answers of status 200 included.
//!
//! Beside `POST /graphql/v1` the port answers without a token:
//!
//! | Route | What it does |
//! |---|---|
//! | `GET /simulator/state` | tenants and customers |
//! | `GET /simulator/requests` | every operation asked, with what became of it |
//! | `POST /simulator/outage` | `{"outage": "unavailable", "silent" or null}` |

mod document;
mod faults;
mod operations;
mod server;
mod store;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use faults::{PlainFault, PlainOutage};

use crate::http::hold::{HeldRequests, Holds, RequestMatch};
use crate::simulator::StartError;
use faults::PlainFaults;
use store::PlainStore;

/// How a [`PlainSimulator`] starts.
#[derive(Debug, Clone)]
pub struct PlainOptions {
    /// The API key that calls must carry.
    pub token: String,
    /// The tiers that there are, by their external ids.
    pub tiers: Vec<String>,
}

impl Default for PlainOptions {
    fn default() -> Self {
        Self {
            token: "plainApiKey_simulator".to_owned(),
            tiers: ["free", "pro", "growth", "scale"].map(str::to_owned).into(),
        }
    }
}

/// A person at Plain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlainCustomerRecord {
    /// Plain's id.
    pub id: String,
    /// The application's id of the user.
    pub external_id: Option<String>,
    /// The address.
    pub email: String,
    /// The name given when it was made.
    pub full_name: String,
    /// The external ids of the tenants it belongs to, sorted.
    pub tenants: Vec<String>,
}

/// An organization at Plain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlainTenantRecord {
    /// Plain's id.
    pub id: String,
    /// The application's id.
    pub external_id: String,
    /// The name.
    pub name: String,
    /// The external id of its tier.
    pub tier: Option<String>,
}

/// An operation that was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlainRequestRecord {
    /// Such as `upsertTenant`; empty where it could not be read.
    pub operation: String,
    /// As they came.
    pub variables: Value,
    /// The HTTP status of the answer; 0 for none.
    pub status: u16,
    /// The code of the refusal inside the answer.
    pub refused: Option<String>,
}

/// A running local Plain. Dropping it stops it.
#[derive(Debug)]
pub struct PlainSimulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
pub(in crate::plain) struct Shared {
    token: Mutex<String>,
    store: Mutex<PlainStore>,
    faults: Mutex<PlainFaults>,
    holds: Holds,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PlainSimulator {
    /// Starts a local Plain on `bind`; port 0 picks a free one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(options: PlainOptions, bind: SocketAddr) -> Result<Self, StartError> {
        let refused = |source: io::Error| StartError::Bind {
            address: bind,
            source,
        };
        let listener = TcpListener::bind(bind).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let shared = Arc::new(Shared {
            token: Mutex::new(options.token),
            store: Mutex::new(PlainStore::new(options.tiers)),
            faults: Mutex::default(),
            holds: Holds::default(),
        });
        let router = Router::new()
            .fallback(server::handle)
            .with_state(Arc::clone(&shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the local Plain stopped listening");
            }
        });
        Ok(Self {
            shared,
            address,
            _tasks: tasks,
        })
    }

    /// The full GraphQL endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/graphql/v1", self.address)
    }

    /// The API key that calls must carry.
    #[must_use]
    pub fn token(&self) -> String {
        locked(&self.shared.token).clone()
    }

    /// Another key is the right one from now on.
    pub fn set_token(&self, token: &str) {
        token.clone_into(&mut locked(&self.shared.token));
    }

    /// Every person, by address.
    #[must_use]
    pub fn customers(&self) -> Vec<PlainCustomerRecord> {
        locked(&self.shared.store).customers()
    }

    /// Every organization, by external id.
    #[must_use]
    pub fn tenants(&self) -> Vec<PlainTenantRecord> {
        locked(&self.shared.store).tenants()
    }

    /// The organization with this external id.
    #[must_use]
    pub fn tenant(&self, external_id: &str) -> Option<PlainTenantRecord> {
        let mut tenants = self.tenants().into_iter();
        tenants.find(|tenant| tenant.external_id == external_id)
    }

    /// The addresses of whoever belongs to an organization, sorted.
    #[must_use]
    pub fn people_of(&self, tenant: &str) -> Vec<String> {
        let customers = self.customers().into_iter();
        let theirs = customers.filter(|row| row.tenants.iter().any(|one| one == tenant));
        theirs.map(|row| row.email).collect()
    }

    /// Somebody gives an organization a tier by hand.
    pub fn set_tier(&self, tenant: &str, tier: Option<&str>) {
        locked(&self.shared.store).assign(tenant, tier.map(str::to_owned));
    }

    /// Somebody deletes an organization by hand; nobody belongs to it any more.
    pub fn remove_tenant(&self, tenant: &str) {
        locked(&self.shared.store).remove_tenant(tenant);
    }

    /// Somebody writes to the support desk, or is entered by hand.
    pub fn add_customer(&self, email: &str, external_id: Option<&str>) {
        locked(&self.shared.store).enter(email, external_id);
    }

    /// Everything that was asked, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<PlainRequestRecord> {
        locked(&self.shared.store).requests.clone()
    }

    /// Plain is down from now on; `None` ends that.
    pub fn set_outage(&self, outage: Option<PlainOutage>) {
        locked(&self.shared.faults).outage = outage;
    }

    /// What becomes of the next call of an operation, once.
    pub fn fail_next(&self, operation: &str, fault: PlainFault) {
        locked(&self.shared.faults).arm(operation, fault);
    }

    /// Holds matching calls until they are released. The path that is matched is the name of the operation, a space
    /// and its variables as JSON.
    #[must_use = "dropping it releases the calls"]
    pub fn hold(&self, matching: RequestMatch) -> HeldRequests {
        self.shared.holds.add(matching)
    }

    /// Calls whose variables hold this text fail with 500, until [`PlainSimulator::fail_nobody`].
    pub fn fail_for(&self, text: &str) {
        locked(&self.shared.faults).broken = Some(text.to_owned());
    }

    /// Ends what [`PlainSimulator::fail_for`] began.
    pub fn fail_nobody(&self) {
        locked(&self.shared.faults).broken = None;
    }
}
