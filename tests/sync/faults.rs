//! Refusals, cut connections and lost answers change how long it takes, not how it ends.

use serde_json::json;
use simulator::{Faults, Product};

use crate::test_app::{Tenant, TestApp, user};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_way_the_end_is_the_same() {
    let app = TestApp::open().await;
    let (tenant, ada, bob) = (Tenant::new(), user(), user());
    let faults: Faults =
        "calls=0.3,timeout-ms=50,retry-after=1,duplicate=0.3,reorder=0.2,retry-scale=0.01"
            .parse()
            .unwrap();
    app.simulator.set_faults(faults);
    app.tell(&[
        tenant.added(&bob, "bob@example.com", "finance"),
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.transferred(&ada),
        tenant.removed(&tenant.owner),
        json!({"type": "organization.updated", "data": {"id": tenant.id, "slug": "acme-2"}}),
    ])
    .await;
    app.resolve_waits().await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    app.resolve_waits().await;

    let mut members: Vec<(String, String)> = app
        .simulator
        .members(&tenant.id)
        .into_iter()
        .map(|member| (member.email, member.role))
        .collect();
    members.sort();
    let wanted = [("ada@example.com", "owner"), ("bob@example.com", "member")];
    assert_eq!(
        members,
        wanted.map(|(email, role)| (email.to_owned(), role.to_owned()))
    );
    let customer = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(customer.metadata["slug"], json!("acme-2"));
    let (plan, sso): (String, bool) =
        sqlx::query_as("SELECT plan, sso_enabled FROM polar_jobs.entitlements")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!((plan.as_str(), sso), ("Scale", true));
    let lost = "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'discarded'";
    assert_eq!(app.count(lost).await, 0);
}
