//! A cancellation that is made again after a change of plan that failed: for people it is the one they know.

use polar_jobs::api::{self, ApiSettings};
use polar_jobs::config::AppSettings;
use polar_jobs::ingress::serve_operations;
use polar_jobs::queue::connect::Pooler;
use serde_json::{Value, json};
use simulator::{Intervention, Product, RequestMatch, SubscriptionStep};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::test_app::{CONTACTS, DEADLINE, PLATFORM, TestApp, polar};

const TOKEN: &str = "the token of the application's server";

/// The organizations API beside a worker, and an organization on Pro whose card is gone.
struct Billing {
    app: TestApp,
    organization: String,
    subscription_url: String,
    server: JoinHandle<()>,
    http: reqwest::Client,
}

impl Drop for Billing {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Billing {
    async fn open() -> Self {
        let app = TestApp::open(polar()).await;
        let organization = app.organization().await;
        app.simulator.set_webhook_url(None);
        app.simulator
            .purchase(&organization, Product::Pro)
            .await
            .unwrap();
        let no_card = app
            .simulator
            .set_billing_details(&organization, Value::Null, false);
        no_card.await.unwrap();
        app.deliver_from_now_on();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = api::router(settings(&app));
        let server = serve_operations(listener, router, std::future::pending());
        Self {
            subscription_url: format!(
                "http://{address}/v1/organizations/{organization}/subscription"
            ),
            app,
            organization,
            server: tokio::spawn(server),
            http: reqwest::Client::builder()
                .tls_certs_only([])
                .build()
                .unwrap(),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> u16 {
        let answer = request.bearer_auth(TOKEN).timeout(DEADLINE).send().await;
        answer.unwrap().status().as_u16()
    }

    async fn cancel(&self) {
        let cancel = self.http.delete(&self.subscription_url);
        assert_eq!(self.send(cancel).await, 200);
    }

    /// Asks for a plan; the status that comes back.
    async fn change_to(&self, product: Product) -> u16 {
        let product = self.app.simulator.product_id(product).unwrap();
        let change = self.http.patch(&self.subscription_url);
        self.send(change.json(&json!({"product_id": product})))
            .await
    }

    /// A change whose cancellation is taken back, and whose plan is then neither changed nor the cancellation restored:
    /// somebody else holds the subscription.
    async fn leave_a_change(&self) {
        let lock = format!("/simulator/customers/{}/lock", self.organization);
        let lock = Intervention::call("POST", &lock, Value::Null);
        let armed = self.app.simulator.arm(changes().after_commit(), lock);
        assert_eq!(self.change_to(Product::Growth).await, 409);
        assert_eq!(armed.status(), Some(200));
        let unlock = SubscriptionStep::Unlock;
        let unlocked = self.app.simulator.step(&self.organization, unlock).await;
        unlocked.unwrap();
        assert!(!self.is_cancelled());
    }

    fn is_cancelled(&self) -> bool {
        let subscription = self.app.simulator.subscriptions(&self.organization).pop();
        subscription.unwrap().cancel_at_period_end
    }

    /// Recipients of what was sent about cancellations, after everything has run that waits.
    async fn told(&self) -> Vec<String> {
        self.app.finish().await;
        let mails = self.app.mails().await.into_iter();
        mails
            .filter(|mail| mail.template == "polar_self_subscription_cancellation")
            .inspect(|mail| assert_eq!(mail.state, "sent"))
            .map(|mail| mail.recipient)
            .collect()
    }
}

fn settings(app: &TestApp) -> ApiSettings {
    ApiSettings {
        pool: app.pool.clone(),
        pooler: Pooler::None,
        polar: Some(app.polar()),
        app_token: Some(TOKEN.into()),
        app: AppSettings {
            url: None,
            session_secret: None,
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
        },
        self_organization: Some(app.simulator.organization_id()),
        scale_product: None,
        platform_fees: PLATFORM,
        early_fees: PLATFORM,
    }
}

fn changes() -> RequestMatch {
    RequestMatch::path("/v1/subscriptions/").method("PATCH")
}

#[tokio::test]
async fn a_cancellation_is_told_once_however_often_a_change_fails_and_the_next_one_is_told() {
    let billing = Billing::open().await;
    billing.cancel().await;
    assert_eq!(billing.told().await, CONTACTS);
    for _try in 0..2 {
        assert_eq!(billing.change_to(Product::Growth).await, 402);
        assert!(billing.is_cancelled());
        assert_eq!(billing.told().await, CONTACTS);
    }
    assert_eq!(billing.change_to(Product::Pro).await, 200, "it goes on");
    billing.cancel().await;
    assert_eq!(billing.told().await.len(), 2 * CONTACTS.len());
    assert_eq!(billing.change_to(Product::Growth).await, 402);
    assert_eq!(billing.told().await.len(), 2 * CONTACTS.len());
}

#[tokio::test]
async fn who_was_not_told_of_a_cancellation_is_told_of_the_restored_one() {
    let billing = Billing::open().await;
    billing.app.simulator.set_webhook_url(None);
    billing.cancel().await;
    billing.app.deliver_from_now_on();
    for _try in 0..2 {
        assert_eq!(billing.change_to(Product::Growth).await, 402);
        assert_eq!(billing.told().await, CONTACTS);
    }
}

#[tokio::test]
async fn a_restored_cancellation_that_is_delivered_before_polar_has_answered_is_not_told_again() {
    let billing = Billing::open().await;
    billing.cancel().await;
    assert_eq!(billing.told().await, CONTACTS);
    let held = billing.app.simulator.hold(changes().after_commit());
    // Taken back, declined; the third one is the restoration.
    held.release(2);
    let (declined, ()) = futures::join!(billing.change_to(Product::Growth), async {
        assert!(held.wait_for(3, DEADLINE).await);
        billing.app.work_until_idle().await;
        let end = billing.app.end("send_subscription_email").await.1;
        assert_eq!(end, "these mails were asked for before");
        held.release_all();
    });
    assert_eq!(declined, 402);
    assert_eq!(billing.told().await, CONTACTS);
}

#[tokio::test]
async fn a_cancellation_that_the_job_restores_is_not_told_again() {
    let billing = Billing::open().await;
    billing.cancel().await;
    assert_eq!(billing.told().await, CONTACTS);
    billing.leave_a_change().await;
    assert_eq!(billing.told().await, CONTACTS);
    assert!(billing.is_cancelled());
    assert_eq!(
        billing.app.end("restore_cancellation").await.0,
        "applied",
        "by the job"
    );
}

#[tokio::test]
async fn a_restoration_of_which_nobody_knows_is_not_told_again_and_the_change_that_fails_next_neither()
 {
    let billing = Billing::open().await;
    billing.cancel().await;
    assert_eq!(billing.told().await, CONTACTS);
    // As Polar has it where it made the restoration and the process died before the answer.
    billing.leave_a_change().await;
    let cancelled = billing
        .app
        .simulator
        .cancel_at_period_end(&billing.organization);
    cancelled.await.unwrap();
    assert_eq!(billing.change_to(Product::Growth).await, 402);
    assert_eq!(billing.told().await, CONTACTS);
    billing.leave_a_change().await;
    let cancelled = billing
        .app
        .simulator
        .cancel_at_period_end(&billing.organization);
    cancelled.await.unwrap();
    assert_eq!(billing.told().await, CONTACTS);
    assert_eq!(billing.app.end("restore_cancellation").await.0, "ignored");
    assert_eq!(billing.change_to(Product::Growth).await, 402);
    assert_eq!(billing.told().await, CONTACTS, "it is known by then");
}

#[tokio::test]
async fn a_cancellation_after_a_change_that_was_made_is_told_before_the_change_is_confirmed() {
    let billing = Billing::open().await;
    let (organization, simulator) = (&billing.organization, &billing.app.simulator);
    let card = simulator.set_billing_details(organization, Value::Null, true);
    card.await.unwrap();
    billing.cancel().await;
    assert_eq!(billing.told().await, CONTACTS);
    let held = simulator.hold(changes().after_commit());
    held.release(1);
    let (changed, ()) = futures::join!(billing.change_to(Product::Growth), async {
        assert!(held.wait_for(2, DEADLINE).await, "Polar has made it");
        simulator.cancel_at_period_end(organization).await.unwrap();
        billing.app.work_until_idle().await;
        assert_eq!(
            billing.app.end("send_subscription_email").await.0,
            "applied"
        );
        held.release_all();
    });
    assert_eq!(changed, 200);
    assert_eq!(billing.told().await.len(), 2 * CONTACTS.len());
}
