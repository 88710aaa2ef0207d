//! `organizations list`, `show` and `timeline`.

use serde_json::{Value, json};
use simulator::Product;

use crate::command::{json as answer, run};
use crate::test_app::{Tenant, TestApp, user};

fn fields(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_where_each_organization_stands() {
    let app = TestApp::open().await;
    let (paying, waiting) = (Tenant::new(), Tenant::new());
    app.tell(&[paying.created()]).await;
    app.work_until_idle().await;
    app.simulator
        .purchase(&paying.id, Product::Scale)
        .await
        .unwrap();
    app.work_until_idle().await;
    app.simulator.fail_customer(&waiting.id);
    app.tell(&[waiting.created()]).await;
    app.drain().await;
    let (code, list) = answer(&app, &["organizations", "list"]).await;
    assert_eq!((code, list.as_array().unwrap().len()), (0, 2));
    let mut wanted = vec![
        "id",
        "name",
        "slug",
        "status",
        "deleted_at",
        "plan",
        "subscription_status",
        "support_tier",
        "customer_id",
        "in_step",
        "in_step_since",
        "waiting_jobs",
        "failing_jobs",
        "differences",
    ];
    wanted.sort_unstable();
    let mut found = fields(&list[0]);
    found.sort_unstable();
    assert_eq!(found, wanted);
    let (waits, pays) = (&list[0], &list[1]);
    assert_eq!(
        (&waits["id"], &waits["in_step"], &waits["in_step_since"]),
        (&json!(waiting.id), &json!(false), &Value::Null)
    );
    assert_eq!(
        (
            &waits["waiting_jobs"],
            &waits["failing_jobs"],
            &waits["plan"]
        ),
        (&json!(1), &json!(1), &json!("Free"))
    );
    assert_eq!(
        (
            &pays["in_step"],
            &pays["support_tier"],
            &pays["subscription_status"]
        ),
        (&json!(true), &json!("scale"), &json!("active"))
    );
    assert!(pays["in_step_since"].is_string() && pays["customer_id"].is_string());
    let (_, list) = answer(&app, &["organizations", "list", "--out-of-step"]).await;
    assert_eq!(
        (list.as_array().unwrap().len(), &list[0]["id"]),
        (1, &json!(waiting.id))
    );
    app.simulator.fail_nobody();
}

#[tokio::test(flavor = "multi_thread")]
async fn show_adds_members_account_entitlements_and_subscription() {
    let app = TestApp::open().await;
    let (tenant, ada) = (Tenant::new(), user());
    app.tell(&[
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "finance"),
    ])
    .await;
    app.work_until_idle().await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.work_until_idle().await;
    let (code, shown) = answer(&app, &["organizations", "show", &tenant.id]).await;
    assert_eq!(code, 0);
    let members = shown["members"].as_array().unwrap();
    assert_eq!(
        (members.len(), &members[0]["role"], &members[1]["email"]),
        (2, &json!("owner"), &json!("ada@example.com"))
    );
    assert_eq!(shown["account"]["organization_id"], json!(tenant.id));
    assert_eq!(shown["entitlements"]["support_tier"], "pro");
    assert_eq!(shown["subscription"]["status"], "active");
    let said = run(&app, &["organizations", "show", &tenant.id]).await;
    assert!(
        said.out.contains("ada@example.com") && said.out.contains("in step       since"),
        "{}",
        said.out
    );
    assert_eq!(run(&app, &["organizations", "show", &user()]).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_tells_everything_in_one_order() {
    let app = TestApp::open().await;
    let (tenant, other) = (Tenant::new(), Tenant::new());
    app.tell(&[tenant.created(), other.created()]).await;
    app.work_until_idle().await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    app.work_until_idle().await;
    let path = format!("/v1/customers/external/{}", tenant.id);
    app.at_polar("PATCH", &path, Some(&json!({"name": "Renamed"})))
        .await;
    app.work_until_idle().await;
    let repair = [
        "--actor",
        "Ada",
        "reconcile",
        "--repair",
        "--organization",
        &tenant.id,
    ];
    assert_eq!(run(&app, &repair).await.code, 0);
    app.work_until_idle().await;
    assert_eq!(run(&app, &["reconcile"]).await.code, 0);

    let (code, timeline) = answer(&app, &["organizations", "timeline", &tenant.id]).await;
    assert_eq!(code, 0);
    let entries = timeline.as_array().unwrap();
    let mut names = fields(&entries[0]);
    names.sort_unstable();
    assert_eq!(names, ["at", "outcome", "reference", "source", "what"]);
    let at: Vec<&str> = entries
        .iter()
        .map(|entry| entry["at"].as_str().unwrap())
        .collect();
    assert!(at.is_sorted(), "{timeline}");
    let place = |source: &str, what: &str| {
        entries
            .iter()
            .position(|entry| {
                entry["source"] == source && entry["what"].as_str().unwrap().starts_with(what)
            })
            .unwrap_or_else(|| panic!("no {source} {what} in {timeline}"))
    };
    let order = [
        place("app", "organization.created"),
        place("job", "sync_customer"),
        place("polar", "subscription.created"),
        place("reconcile", "customer: changed at Polar"),
    ];
    assert!(order.is_sorted(), "{timeline}");
    assert!(place("operator", "reconcile --repair by Ada") > order[2]);
    assert!(!timeline.to_string().contains(&other.id));
    let (_, short) = answer(
        &app,
        &["organizations", "timeline", &tenant.id, "--limit", "2"],
    )
    .await;
    assert_eq!(short.as_array().unwrap(), &entries[entries.len() - 2..]);
}
