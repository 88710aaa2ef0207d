//! As a shadow: what would change, and nothing does.

use serde_json::{Value, json};
use simulator::Product;

use crate::commands::renamed;
use crate::test_app::{Tenant, TestApp};

impl TestApp {
    async fn shadow(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments = [
            &["events", "replay", "--shadow", "--format", "json"],
            arguments,
        ]
        .concat();
        let said = self.command(&arguments).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    }

    /// Everything that a shadow could change: our tables, as one text, and what Polar was asked to do.
    async fn everything(&self) -> (String, usize) {
        let mut text = String::new();
        for table in [
            "organizations",
            "memberships",
            "people",
            "subscriptions",
            "held_benefits",
            "polar_customers",
            "out_of_step",
            "jobs",
            "external_events",
            "operator_actions",
        ] {
            let rows: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
                "SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM polar_jobs.{table} t"
            )))
            .fetch_one(&self.pool)
            .await
            .unwrap();
            text.push_str(&rows.unwrap_or_default());
        }
        (text, self.writes().len())
    }
}

fn change<'a>(shadow: &'a Value, field: &str) -> &'a Value {
    let changes = shadow["changes"].as_array().unwrap();
    let found = changes.iter().find(|change| change["field"] == field);
    found.unwrap_or_else(|| panic!("{field} would not change: {shadow:#}"))
}

fn outcomes(shadow: &Value) -> Vec<(&str, &str)> {
    let jobs = shadow["jobs"].as_array().unwrap().iter();
    jobs.map(|job| {
        (
            job["kind"].as_str().unwrap(),
            job["outcome"].as_str().unwrap(),
        )
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shadow_of_a_delivery_says_which_entitlements_would_change() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    assert!(
        app.simulator
            .deliveries_finished(crate::test_app::DEADLINE)
            .await
    );
    // Nobody has worked yet.
    let before = app.everything().await;
    let event = &app.events("benefit_grant.created").await[0];
    let shadow = app.shadow(&[event]).await.remove(0);
    assert_eq!(outcomes(&shadow), [("apply_benefits", "applied")]);
    let tier = change(&shadow, "support_tier");
    assert_eq!(
        (&tier["before"], &tier["after"]),
        (&Value::Null, &json!("scale"))
    );
    assert_eq!(change(&shadow, "fee_basis_points")["after"], 340);
    assert_eq!(app.everything().await, before);
    app.resolve_waits().await;
    let after = app.shadow(&[event]).await.remove(0);
    assert_eq!(
        after["changes"],
        json!([]),
        "there is nothing left to change"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shadow_of_a_change_says_what_would_be_sent_to_polar() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.tell(&[renamed(&tenant, "Later")]).await;
    let before = app.everything().await;
    let event = &app.events("organization.updated").await[0];
    let shadow = app.shadow(&[event]).await.remove(0);
    assert_eq!(
        outcomes(&shadow),
        [("apply_change", "applied"), ("sync_customer", "sends")]
    );
    let sent = shadow["jobs"][1]["note"].as_str().unwrap();
    assert_eq!(sent, "PATCH /v1/customers/external/{external_id} (name)");
    let name = change(&shadow, "name");
    assert_eq!(
        (&name["before"], &name["after"]),
        (&json!("Acme"), &json!("Later"))
    );
    assert_eq!(app.everything().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shadow_of_an_old_change_says_that_newer_news_stay() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created(), renamed(&tenant, "Later")])
        .await;
    app.resolve_waits().await;
    let before = app.everything().await;
    let shadows = app.shadow(&["--organization", &tenant.id]).await;
    let changes: Vec<&Value> = shadows
        .iter()
        .filter(|one| one["type"].as_str().unwrap().starts_with("organization"))
        .collect();
    assert_eq!(changes.len(), 2);
    for shadow in changes {
        assert_eq!(
            outcomes(shadow),
            [("apply_change", "ignored")],
            "{shadow:#}"
        );
    }
    assert_eq!(app.everything().await, before);
}
