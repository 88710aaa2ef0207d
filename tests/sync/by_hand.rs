//! What people made by hand at Polar before we came, or beside us.

use serde_json::{Value, json};

use crate::test_app::{Tenant, TestApp, user};

impl TestApp {
    /// Somebody else's call, with what our client never sends.
    async fn by_hand(&self, path: &str, body: Value) {
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .build()
            .unwrap();
        let answer = client
            .post(format!(
                "{}{path}",
                self.simulator.url().trim_end_matches('/')
            ))
            .bearer_auth(self.simulator.access_token())
            .header("Polar-Version", polar::API_VERSION)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    async fn member_by_hand(&self, tenant: &Tenant, body: Value) {
        let path = format!("/v1/customers/external/{}/members", tenant.id);
        self.by_hand(&path, body).await;
    }

    fn people(&self, tenant: &Tenant) -> Vec<(Option<String>, String, String)> {
        let members = self.simulator.members(&tenant.id).into_iter();
        let mut people: Vec<_> = members
            .map(|row| (row.external_id, row.email, row.role))
            .collect();
        people.sort_by(|one, other| one.1.cmp(&other.1));
        people
    }
}

fn person(id: &str, email: &str, role: &str) -> (Option<String>, String, String) {
    (Some(id.to_owned()), email.to_owned(), role.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_made_by_hand_with_our_owners_address_gets_our_owner_and_its_other_members_stay() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    // Polar gives an owner without an external id that of the customer.
    let team = json!({"type": "team", "name": "By hand", "external_id": tenant.id,
                      "owner": {"email": "owner@example.com", "name": "By hand"}});
    app.by_hand("/v1/customers/", team).await;
    app.member_by_hand(
        &tenant,
        json!({"email": "foreign@example.com", "external_id": "foreign"}),
    )
    .await;
    app.tell(&[
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "admin"),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(
        app.people(&tenant),
        [
            person(&ada, "ada@example.com", "billing_manager"),
            person("foreign", "foreign@example.com", "member"),
            person(&tenant.owner, "owner@example.com", "owner"),
        ]
    );
    let customer = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(
        (customer.name.as_deref(), &customer.metadata["slug"]),
        (Some("Acme"), &json!("acme"))
    );
    let left = "SELECT count(*) FROM polar_jobs.out_of_step";
    assert_eq!(app.count(left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_person_made_by_hand_becomes_a_team_with_our_people() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    let single = json!({"type": "individual", "name": "By hand", "external_id": tenant.id, "email": "owner@example.com"});
    app.by_hand("/v1/customers/", single).await;
    app.tell(&[
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "finance"),
    ])
    .await;
    app.resolve_waits().await;
    assert!(app.simulator.customer(&tenant.id).unwrap().team);
    assert_eq!(
        app.people(&tenant),
        [
            person(&ada, "ada@example.com", "member"),
            person(&tenant.owner, "owner@example.com", "owner"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_made_by_hand_with_a_wanted_address_is_made_again_with_our_id() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    app.member_by_hand(
        &tenant,
        json!({"email": "Ada@example.com", "name": "By hand"}),
    )
    .await;
    app.tell(&[tenant.added(&ada, "ada@example.com", "admin")])
        .await;
    app.resolve_waits().await;
    assert_eq!(
        app.people(&tenant),
        [
            person(&ada, "ada@example.com", "billing_manager"),
            person(&tenant.owner, "owner@example.com", "owner"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_made_by_hand_who_owns_the_customer_is_never_removed() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    let team = json!({"type": "team", "name": "By hand", "external_id": tenant.id,
                      "owner": {"email": "ada@example.com", "name": "By hand"}});
    app.by_hand("/v1/customers/", team).await;
    // Nobody of ours owns it when Polar is asked, so ownership cannot move.
    app.tell(&[
        tenant.created(),
        tenant.removed(&tenant.owner),
        tenant.added(&ada, "ada@example.com", "member"),
    ])
    .await;
    app.drain_without_billing().await;
    app.resolve_waits().await;
    assert_eq!(
        app.people(&tenant),
        [person(&tenant.id, "ada@example.com", "owner")]
    );
    let (state, reason) = app.end("sync_member").await;
    assert_eq!(state, "discarded");
    assert!(reason.contains("an owner is not removed"), "{reason}");
    // Another owner comes: then the member by hand is no owner any more.
    app.tell(&[tenant.transferred(&ada)]).await;
    app.resolve_waits().await;
    assert_eq!(
        app.people(&tenant),
        [person(&ada, "ada@example.com", "owner")]
    );
}
