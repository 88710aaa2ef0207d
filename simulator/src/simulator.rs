//! Why: a test, `dev` and the command line hold the simulator by this handle: start it, move its clock, let things
//! happen, look inside.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::access::Credentials;
use crate::catalogue::Product;
use crate::connection::{Cord, CordedListener};
use crate::faults::Faults;
use crate::gate::{Gate, RequestMatch};
use crate::options::Options;
use crate::records::{
    CustomerRecord, DeliveryRecord, EventRecord, GrantRecord, MemberRecord, OrderRecord,
    RequestRecord, SubscriptionRecord,
};
use crate::server;
use crate::shared::Shared;
use crate::story::{Act, StoryError};
use crate::webhooks::dispatch;

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
    shared: Arc<Shared>,
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

    /// What deliveries are signed with from the start; see [`Simulator::set_webhook_secret`].
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

    /// Makes a token of another organization known: it sees an empty house.
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

    /// Replaces the secret at once; even retries are signed with the new one (c.2).
    pub fn set_webhook_secret(&self, secret: &str) {
        secret.clone_into(
            &mut self
                .shared
                .webhook_secret
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.shared.lock().rotate_secret(secret);
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

    /// Changes the mishaps from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().outbox.faults = faults;
    }

    /// The time of the story.
    #[must_use]
    pub fn clock(&self) -> DateTime<Utc> {
        self.shared.lock().now()
    }

    /// Moves the story clock forward; renewals, period ends and due deliveries happen on the way, in order. A negative
    /// span moves nothing.
    pub async fn advance(&self, by: TimeDelta) {
        if let Ok(by) = by.to_std() {
            self.shared.advance(by).await;
        }
    }

    /// Waits until every delivery was answered 2xx, finally failed or was skipped; false when `patience` runs out.
    pub async fn deliveries_settled(&self, patience: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if self.shared.lock().deliveries_settled() {
                return true;
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Sets up a gate that holds matching requests.
    #[must_use = "dropping a gate opens it"]
    pub fn gate(&self, matching: RequestMatch) -> Gate {
        self.shared.gates.add(matching)
    }

    /// Checkout and payment; answers the subscription's id.
    ///
    /// # Errors
    /// The customer or the plan does not exist.
    pub async fn purchase(
        &self,
        external_customer_id: &str,
        product: Product,
    ) -> Result<Uuid, StoryError> {
        self.shared
            .lock()
            .story_purchase(external_customer_id, product)
    }

    /// Lets something happen to the customer's running subscription.
    ///
    /// # Errors
    /// There is none, or its state does not allow it.
    pub async fn act(&self, external_customer_id: &str, act: Act) -> Result<(), StoryError> {
        let mut store = self.shared.lock();
        let id = store.running_subscription(external_customer_id)?;
        store.story_act(id, act)
    }

    /// Another plan, at once and paid. `new_first`: the new grants come before the old ones go (d.1).
    ///
    /// # Errors
    /// No running subscription, or no such plan.
    pub async fn change_plan(
        &self,
        external_customer_id: &str,
        product: Product,
        new_first: bool,
    ) -> Result<(), StoryError> {
        self.shared
            .lock()
            .story_change(external_customer_id, product, new_first)
    }

    /// The period turns and the charge succeeds.
    ///
    /// # Errors
    /// As [`Simulator::act`].
    pub async fn renew(&self, external_customer_id: &str) -> Result<(), StoryError> {
        self.act(external_customer_id, Act::Renew).await
    }

    /// The period turns and the charge fails: past due.
    ///
    /// # Errors
    /// As [`Simulator::act`].
    pub async fn fail_payment(&self, external_customer_id: &str) -> Result<(), StoryError> {
        self.act(external_customer_id, Act::FailPayment).await
    }

    /// The failed charge is made good.
    ///
    /// # Errors
    /// As [`Simulator::act`].
    pub async fn recover_payment(&self, external_customer_id: &str) -> Result<(), StoryError> {
        self.act(external_customer_id, Act::RecoverPayment).await
    }

    /// The customer cancels; access lasts to the period's end.
    ///
    /// # Errors
    /// As [`Simulator::act`].
    pub async fn cancel_at_period_end(&self, external_customer_id: &str) -> Result<(), StoryError> {
        self.act(external_customer_id, Act::CancelAtPeriodEnd).await
    }

    /// The customer takes a cancellation back.
    ///
    /// # Errors
    /// As [`Simulator::act`].
    pub async fn uncancel(&self, external_customer_id: &str) -> Result<(), StoryError> {
        self.act(external_customer_id, Act::Uncancel).await
    }

    /// Ends the subscription at once.
    ///
    /// # Errors
    /// As [`Simulator::act`].
    pub async fn revoke(&self, external_customer_id: &str) -> Result<(), StoryError> {
        self.act(external_customer_id, Act::Revoke).await
    }

    /// Pauses now; benefits are withdrawn.
    ///
    /// # Errors
    /// As [`Simulator::act`].
    pub async fn pause(&self, external_customer_id: &str) -> Result<(), StoryError> {
        self.act(external_customer_id, Act::Pause).await
    }

    /// Ends the pause, charged at once.
    ///
    /// # Errors
    /// As [`Simulator::act`].
    pub async fn resume(&self, external_customer_id: &str) -> Result<(), StoryError> {
        self.act(external_customer_id, Act::Resume).await
    }

    /// Gives the customer's plan another benefit of the same type in place of the old: the upgrade's moment, alone.
    ///
    /// # Errors
    /// The plan has no benefit of that type.
    pub async fn replace_benefit(
        &self,
        product: Product,
        benefit_type: &str,
        metadata: Map<String, Value>,
    ) -> Result<Uuid, StoryError> {
        self.shared
            .lock()
            .story_replace_benefit(product, benefit_type, metadata)
    }

    /// Edits the metadata of a plan's benefit; Polar announces `benefit.updated` and nothing else (d.2).
    ///
    /// # Errors
    /// The plan has no benefit of that type.
    pub async fn edit_benefit_metadata(
        &self,
        product: Product,
        benefit_type: &str,
        metadata: Map<String, Value>,
    ) -> Result<(), StoryError> {
        let mut store = self.shared.lock();
        let id = store.plan_benefit(product, benefit_type)?;
        store.edit_benefit(id, Some(metadata), None);
        Ok(())
    }

    /// Sets which benefits a plan has, by their ids; its subscribers gain and lose what changed.
    ///
    /// # Errors
    /// The plan does not exist.
    pub async fn set_benefits_of_product(
        &self,
        product: Product,
        benefits: Vec<Uuid>,
    ) -> Result<(), StoryError> {
        let mut store = self.shared.lock();
        let id = store
            .plan(product)
            .ok_or_else(|| StoryError::UnknownProduct(product.name().into()))?;
        store.put_benefits(id, benefits);
        Ok(())
    }

    /// Adds a benefit that no plan has yet.
    pub async fn add_benefit(&self, description: &str, metadata: Map<String, Value>) -> Uuid {
        self.shared.lock().insert_benefit(
            description,
            metadata,
            serde_json::json!({"note": "Comes with the plan."}),
        )
    }

    /// Sets or clears a customer's billing address and card; orders made later copy the address (e.3).
    ///
    /// # Errors
    /// The customer does not exist.
    pub async fn set_billing_details(
        &self,
        external_customer_id: &str,
        address: Value,
        card: bool,
    ) -> Result<(), StoryError> {
        self.shared
            .lock()
            .story_billing(external_customer_id, address, card)
    }

    /// Changes an order's status without a word: `draft`, `pending`, `paid` or `void`.
    ///
    /// # Errors
    /// No such order.
    pub async fn set_order_status(
        &self,
        order: Uuid,
        status: OrderStatus,
    ) -> Result<(), StoryError> {
        let mut store = self.shared.lock();
        store
            .orders
            .get(order)
            .ok_or(StoryError::UnknownOrder(order))?;
        store.set_order_status(order, status.word());
        Ok(())
    }

    /// Money for an order arrives: `order.updated`, `order.paid`.
    ///
    /// # Errors
    /// No such order.
    pub async fn pay_order(&self, order: Uuid) -> Result<(), StoryError> {
        let mut store = self.shared.lock();
        store
            .orders
            .get(order)
            .ok_or(StoryError::UnknownOrder(order))?;
        store.pay_order(order);
        Ok(())
    }

    /// Sends a delivery again, as the dashboard's button does; false for an unknown id.
    pub fn redeliver(&self, webhook_id: Uuid) -> bool {
        self.shared.lock().redeliver(webhook_id)
    }

    /// The id of a seeded plan.
    #[must_use]
    pub fn product_id(&self, product: Product) -> Option<Uuid> {
        self.shared.lock().plan(product)
    }

    /// The id of a plan's benefit, by `metadata.type`.
    #[must_use]
    pub fn benefit_id(&self, product: Product, benefit_type: &str) -> Option<Uuid> {
        self.shared.lock().plan_benefit(product, benefit_type).ok()
    }

    /// The living customer with this external id.
    #[must_use]
    pub fn customer(&self, external_id: &str) -> Option<CustomerRecord> {
        let store = self.shared.lock();
        store
            .customer_by_external_id(external_id)
            .map(CustomerRecord::from)
    }

    /// All customers, deleted ones too, oldest first.
    #[must_use]
    pub fn customers(&self) -> Vec<CustomerRecord> {
        self.shared
            .lock()
            .customers
            .iter()
            .map(CustomerRecord::from)
            .collect()
    }

    /// Living members of a living customer, oldest first.
    #[must_use]
    pub fn members(&self, external_customer_id: &str) -> Vec<MemberRecord> {
        self.shared.lock().member_records(external_customer_id)
    }

    /// All grants of a customer, also withdrawn ones and those of a deleted customer.
    #[must_use]
    pub fn grants(&self, external_customer_id: &str) -> Vec<GrantRecord> {
        self.shared.lock().grant_records(external_customer_id)
    }

    /// All subscriptions of a customer, oldest first, also of a deleted one.
    #[must_use]
    pub fn subscriptions(&self, external_customer_id: &str) -> Vec<SubscriptionRecord> {
        self.shared
            .lock()
            .subscription_records(external_customer_id)
    }

    /// All orders of a customer, oldest first, also of a deleted one.
    #[must_use]
    pub fn orders(&self, external_customer_id: &str) -> Vec<OrderRecord> {
        self.shared.lock().order_records(external_customer_id)
    }

    /// All ingested events, in the order they came.
    #[must_use]
    pub fn events(&self) -> Vec<EventRecord> {
        self.shared.lock().event_records()
    }

    /// The sum of `metadata.count` over a customer's events of one name.
    #[must_use]
    pub fn event_sum(&self, name: &str, external_customer_id: &str) -> i64 {
        self.shared.lock().event_sum(name, external_customer_id)
    }

    /// Every API request seen, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.lock().requests.clone()
    }

    /// Every delivery, in the order the events were made.
    #[must_use]
    pub fn deliveries(&self) -> Vec<DeliveryRecord> {
        self.shared
            .lock()
            .outbox
            .deliveries
            .iter()
            .map(DeliveryRecord::from)
            .collect()
    }
}

/// The states of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    /// Not final yet; has no invoice.
    Draft,
    /// Waits for its money.
    Pending,
    /// Paid.
    Paid,
    /// Never to be paid; has no invoice.
    Void,
}

impl OrderStatus {
    fn word(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Void => "void",
        }
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
