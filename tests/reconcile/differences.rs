//! `reconcile`: what differs is found with its cause, repaired when asked, and known until it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use jobs::{NewJob, Reconcile};
use polar::{
    Admission, Answer, BoxFuture, CallFacts, RateLimiter, Rejected, RejectedReason, Unlimited,
};
use polar_jobs::queue::enqueue;
use serde_json::{Value, json};
use simulator::Product;

use crate::command::{json, run};
use crate::test_app::{Tenant, TestApp, user};

/// An organization with a member, in step.
async fn in_step(app: &TestApp) -> (Tenant, String) {
    let (tenant, member) = (Tenant::new(), user());
    app.tell(&[
        tenant.created(),
        tenant.added(&member, "ada@example.com", "admin"),
    ])
    .await;
    app.resolve_waits().await;
    (tenant, member)
}

/// The subjects with their causes.
fn causes(differences: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = differences.as_array().unwrap().iter();
    let mut causes: Vec<_> = all
        .map(|one| (text(&one["subject"]), text(&one["cause"])))
        .collect();
    causes.sort();
    causes
}

/// Lets a run begin, as its schedule does; nobody works on it yet.
async fn begin_run(app: &TestApp) {
    let since = sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    let mut connection = app.pool.acquire().await.unwrap();
    let job = NewJob::of(&Reconcile { since, page: None });
    enqueue::insert(&mut connection, &job).await.unwrap();
}

async fn night(app: &TestApp) {
    begin_run(app).await;
    app.resolve_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_begins_while_another_waits_compares_everybody_all_the_same() {
    let app = TestApp::open().await;
    let (tenant, member) = in_step(&app).await;
    let path = format!("/v1/customers/external/{}/members/{member}", tenant.id);
    app.at_polar("DELETE", &path, None).await;
    app.work_until_idle().await;
    // The run of the night before has only Polar's customers left to look at.
    let earlier = Reconcile {
        since: Utc::now() - TimeDelta::days(1),
        page: Some(7),
    };
    let mut connection = app.pool.acquire().await.unwrap();
    enqueue::insert(&mut connection, &NewJob::of(&earlier))
        .await
        .unwrap();
    drop(connection);
    night(&app).await;
    assert!(app.member(&tenant, &member).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_somebody_only_looks_at_meanwhile_a_run_repairs_all_the_same() {
    for looks_at_all in [true, false] {
        let app = TestApp::open().await;
        let (tenant, _) = in_step(&app).await;
        let path = format!("/v1/customers/external/{}", tenant.id);
        app.at_polar("PATCH", &path, Some(&json!({"name": "Renamed"})))
            .await;
        app.work_until_idle().await;
        begin_run(&app).await;
        let look = match looks_at_all {
            true => vec!["reconcile"],
            false => vec!["reconcile", "--organization", &tenant.id],
        };
        let (code, differences) = json(&app, &look).await;
        assert_eq!((code, causes(&differences).len()), (1, 1), "{differences}");
        app.resolve_waits().await;
        let name = app.simulator.customer(&tenant.id).unwrap().name;
        assert_eq!(name.as_deref(), Some("Acme"), "all: {looks_at_all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_no_state_tells_is_found_although_nothing_was_ever_heard_of_it() {
    let app = TestApp::open().await;
    let (late, _) = in_step(&app).await;
    let (paused, _) = in_step(&app).await;
    app.simulator.set_webhook_url(None);
    for tenant in [&late, &paused] {
        app.simulator
            .purchase(&tenant.id, Product::Pro)
            .await
            .unwrap();
    }
    app.simulator.fail_payment(&late.id).await.unwrap();
    app.simulator.pause(&paused.id).await.unwrap();
    night(&app).await;
    for (tenant, expected) in [(&late, "past_due"), (&paused, "paused")] {
        let status: Option<String> = sqlx::query_scalar(
            "SELECT subscription_status FROM polar_jobs.entitlements WHERE organization_id = $1::uuid",
        )
        .bind(&tenant.id)
        .fetch_one(&app.pool)
        .await
        .unwrap();
        assert_eq!(status.as_deref(), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_differs_no_empty_table_is_printed() {
    let app = TestApp::open().await;
    in_step(&app).await;
    let said = run(&app, &["reconcile"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "nothing differs\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_differs_after_a_sync_whatever_the_plan() {
    let app = TestApp::open().await;
    let (free, _) = in_step(&app).await;
    let (paying, _) = in_step(&app).await;
    app.simulator
        .purchase(&paying.id, Product::Scale)
        .await
        .unwrap();
    app.work_until_idle().await;
    let (late, _) = in_step(&app).await;
    app.simulator
        .purchase(&late.id, Product::Pro)
        .await
        .unwrap();
    app.work_until_idle().await;
    app.simulator.fail_payment(&late.id).await.unwrap();
    app.work_until_idle().await;
    let (code, differences) = json(&app, &["reconcile"]).await;
    assert_eq!((code, differences), (0, json!([])));
    let (code, differences) = json(&app, &["reconcile", "--organization", &free.id]).await;
    assert_eq!((code, differences), (0, json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_change_at_polar_is_found_with_its_cause_and_repaired_when_asked() {
    let app = TestApp::open().await;
    let (tenant, member) = in_step(&app).await;
    let path = format!("/v1/customers/external/{}", tenant.id);
    app.at_polar(
        "PATCH",
        &path,
        Some(&json!({"name": "Renamed", "metadata": {"slug": "other"}})),
    )
    .await;
    let people = format!("{path}/members/{member}");
    app.at_polar(
        "PATCH",
        &people,
        Some(&json!({"name": "Somebody Else", "role": "member"})),
    )
    .await;
    app.work_until_idle().await;

    let (code, differences) = json(&app, &["reconcile"]).await;
    assert_eq!(code, 1);
    let changed = |subject: &str| (subject.to_owned(), "changed at Polar".to_owned());
    assert_eq!(
        causes(&differences),
        [changed("customer"), changed(&format!("member/{member}"))]
    );
    let customer = &differences
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["subject"] == "customer")
        .unwrap();
    assert_eq!(customer["wanted"], json!({"name": "Acme", "slug": "acme"}));
    assert_eq!(
        customer["found"],
        json!({"name": "Renamed", "slug": "other"})
    );
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.live_jobs").await,
        0,
        "it only looks"
    );

    let said = run(&app, &["reconcile", "--repair", "--actor", "Ada"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let actions = "SELECT count(*) FROM polar_jobs.operator_actions WHERE actor = 'Ada' AND action = 'reconcile --repair'";
    assert_eq!(app.count(actions).await, 1);
    app.work_until_idle().await;
    let (code, differences) = json(&app, &["reconcile"]).await;
    assert_eq!((code, differences), (0, json!([])));
    let repaired = "SELECT count(*) FROM polar_jobs.differences WHERE repaired_at IS NOT NULL AND last_seen > first_seen";
    assert_eq!(app.count(repaired).await, 2);
    assert_eq!(
        app.simulator.customer(&tenant.id).unwrap().name.as_deref(),
        Some("Acme")
    );
    assert_eq!(
        app.role_at_polar(&tenant, &member).as_deref(),
        Some("billing_manager")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_bought_while_nobody_listened_is_found_and_mirrored() {
    let app = TestApp::open().await;
    let (tenant, _) = in_step(&app).await;
    app.simulator.set_webhook_url(None);
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    let (code, differences) = json(&app, &["reconcile"]).await;
    assert_eq!(code, 1);
    let missed = |subject: &str| (subject.to_owned(), "its delivery was missed".to_owned());
    assert_eq!(
        causes(&differences),
        [missed("benefits"), missed("subscription")]
    );
    night(&app).await;
    let scale = "SELECT count(*) FROM polar_jobs.entitlements WHERE support_tier = 'scale' AND subscription_status = 'active'";
    assert_eq!(app.count(scale).await, 1);
    assert_eq!(json(&app, &["reconcile"]).await, (0, json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_clash_are_a_difference_also_while_their_job_is_tried_again() {
    let app = TestApp::open().await;
    let (tenant, _) = in_step(&app).await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.work_until_idle().await;
    let again = json!({"type": "support", "level": 4, "slack": true, "prioritized": true});
    let again = again.as_object().unwrap().clone();
    let again = app.simulator.add_benefit("Also support", again).await;
    let support = app.simulator.benefit_id(Product::Pro, "support").unwrap();
    app.simulator
        .set_benefits_of_product(Product::Pro, vec![support, again])
        .await
        .unwrap();
    app.work_until_idle().await;
    let tried_again = "SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'apply_benefits' AND state = 'available'";
    assert_eq!(app.count(tried_again).await, 1);
    let (code, differences) = json(&app, &["reconcile"]).await;
    assert_eq!(code, 1);
    let (subject, cause) = causes(&differences).pop().unwrap();
    assert_eq!(subject, "benefits");
    assert!(cause.contains("2 benefits of type support"), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_vanished_unnoticed_is_made_again_with_everybody() {
    let app = TestApp::open().await;
    let (tenant, member) = in_step(&app).await;
    app.simulator.set_webhook_url(None);
    app.at_polar(
        "DELETE",
        &format!("/v1/customers/external/{}", tenant.id),
        None,
    )
    .await;
    let (code, differences) = json(&app, &["reconcile"]).await;
    assert_eq!(code, 1);
    assert_eq!(
        causes(&differences),
        [("customer".to_owned(), "deleted at Polar".to_owned())]
    );
    assert_eq!(
        run(
            &app,
            &["reconcile", "--repair", "--organization", &tenant.id]
        )
        .await
        .code,
        0
    );
    app.resolve_waits().await;
    assert!(app.member(&tenant, &member).is_some());
    assert_eq!(json(&app, &["reconcile"]).await, (0, json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_that_comes_again_is_a_new_row() {
    let app = TestApp::open().await;
    let (tenant, _) = in_step(&app).await;
    let path = format!("/v1/customers/external/{}", tenant.id);
    for _ in 0..2 {
        app.at_polar("PATCH", &path, Some(&json!({"name": "Renamed"})))
            .await;
        app.work_until_idle().await;
        night(&app).await;
        night(&app).await;
    }
    let rows = "SELECT count(*) FROM polar_jobs.differences WHERE repaired_at IS NOT NULL";
    assert_eq!(app.count(rows).await, 2);
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.differences")
            .await,
        2
    );
}

/// Lets so many calls out, then none.
struct Budget(AtomicI64);

impl RateLimiter for Budget {
    fn acquire(&self, call: CallFacts) -> BoxFuture<'_, Result<Admission, Rejected>> {
        if self.0.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Box::pin(async {
                Err(Rejected {
                    reason: RejectedReason::Budget,
                    retry_after: Duration::from_secs(3600),
                })
            });
        }
        Box::pin(async move { Unlimited.acquire(call).await })
    }

    fn record(&self, _: CallFacts, _: Admission, _: Answer) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_the_budget_stops_goes_on_behind_whom_it_compared() {
    let app = TestApp::open().await;
    for _ in 0..5 {
        in_step(&app).await;
    }
    let before = app.simulator.requests().len();
    begin_run(&app).await;
    // Three calls for each of two organizations, and one for the third.
    app.drain_through(Arc::new(Budget(AtomicI64::new(7)))).await;
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.comparisons")
            .await,
        2
    );
    app.resolve_waits().await;
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.comparisons")
            .await,
        5
    );
    let calls = app.simulator.requests().len() - before;
    // Fifteen for five organizations, one asked again, one page of customers.
    assert_eq!(
        calls, 17,
        "nobody is compared twice but whom the budget stopped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_organization_that_polar_fails_for_does_not_keep_the_others_from_being_compared() {
    let app = TestApp::open().await;
    let (broken, _) = in_step(&app).await;
    let (renamed, _) = in_step(&app).await;
    let path = format!("/v1/customers/external/{}", renamed.id);
    app.at_polar("PATCH", &path, Some(&json!({"name": "Renamed"})))
        .await;
    app.work_until_idle().await;
    app.simulator.fail_customer(&broken.id);
    let (code, differences) = json(&app, &["reconcile"]).await;
    assert_eq!((code, causes(&differences).len()), (1, 1), "{differences}");
    let untold = "SELECT count(*) FROM polar_jobs.comparisons WHERE compared_at IS NULL";
    assert_eq!(app.count(untold).await, 1);
    app.simulator.fail_nobody();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_could_not_be_compared_is_named_and_never_called_in_step() {
    let app = TestApp::open().await;
    let (broken, _) = in_step(&app).await;
    in_step(&app).await;
    app.simulator.fail_customer(&broken.id);
    let said = run(&app, &["reconcile"]).await;
    assert_eq!(said.code, 1, "{}", said.out);
    let expected = format!("1 organization could not be compared ({})", broken.id);
    assert!(said.err.contains(&expected), "{}", said.err);
    app.simulator.fail_nobody();
    assert_eq!(run(&app, &["reconcile"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_renamed_at_polar_is_renamed_here() {
    let app = TestApp::open().await;
    let (tenant, _) = in_step(&app).await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.work_until_idle().await;
    // Only people change the catalogue, so the description of what we may call lacks it.
    app.simulator.provoked(1);
    let product = app.simulator.product_id(Product::Pro).unwrap();
    let path = format!("/v1/products/{product}");
    let name = json!({"name": "Team"});
    app.at_polar("PATCH", &path, Some(&name)).await;
    let (code, found) = json(&app, &["reconcile"]).await;
    let cause = "its delivery was missed".to_owned();
    assert_eq!(
        (code, causes(&found)),
        (1, vec![("subscription".to_owned(), cause)])
    );
    let said = run(&app, &["reconcile", "--repair"]).await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    app.resolve_waits().await;
    let plan: String = sqlx::query_scalar("SELECT plan FROM polar_jobs.entitlements")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(plan, "Team");
    assert_eq!(run(&app, &["reconcile"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_organization_is_not_compared_and_nothing_said_of_it_stays_open() {
    let app = TestApp::open().await;
    let ours = Tenant {
        id: app.simulator.organization_id().to_string(),
        owner: user(),
    };
    app.tell(&[ours.created()]).await;
    app.resolve_waits().await;
    let open = "SELECT count(*) FROM polar_jobs.differences WHERE repaired_at IS NULL";
    let refused = run(&app, &["reconcile", "--organization", &ours.id]).await;
    assert_eq!(
        (refused.code, app.count(open).await),
        (2, 0),
        "{}",
        refused.out
    );
    assert!(
        refused
            .err
            .contains("the self organization is no customer of its own"),
        "{}",
        refused.err
    );
    // Compared by an earlier release, or while another organization sold.
    for by_hand in [false, true] {
        sqlx::query(
            "INSERT INTO polar_jobs.differences (organization_id, subject, cause) VALUES ($1::uuid, 'customer', 'not synced yet')",
        )
        .bind(&ours.id)
        .execute(&app.pool)
        .await
        .unwrap();
        match by_hand {
            true => assert_eq!(run(&app, &["reconcile"]).await.code, 0),
            false => night(&app).await,
        }
        assert_eq!(app.count(open).await, 0, "by hand: {by_hand}");
    }
}
