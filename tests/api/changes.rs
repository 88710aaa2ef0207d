//! Buying, changing and ending a plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jobs::{NewJob, ResumeSyncs};
use polar::Unlimited;
use polar_jobs::queue::enqueue;
use serde_json::{Value, json};
use simulator::{Intervention, Product, RequestMatch, SubscriptionStep};

use crate::app::{
    ApiApp, As, Company, IngressProcess, TOKEN_OF_PROCESS, client, http, second_server,
};
use crate::test_app::DEADLINE;

/// Cancellations that are still to be restored.
const RESUMED: &str = "SELECT count(*) FROM polar_jobs.resumed_subscriptions";

fn plan(app: &ApiApp, product: Product) -> Value {
    json!({"product_id": app.product(product)})
}

async fn change(app: &ApiApp, company: &Company, product: Product) -> crate::app::Answer {
    let body = plan(app, product);
    app.tell_api(
        &company.owner(),
        "PATCH",
        &company.at("/subscription"),
        &body,
    )
    .await
}

#[tokio::test]
async fn buying_opens_a_page_with_the_callers_address_and_addresses_of_the_application_only() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let body = json!({"product_id": app.product(Product::Pro), "success_url": "https://evil.example/x",
        "return_url": "/billing", "embed_origin": "https://app.example.com"});
    let forwarded = [("x-forwarded-for", "6.6.6.6, 198.51.100.7")];
    let path = company.at("/subscription");
    let opened = app
        .send(&company.owner(), "POST", &path, Some(&body), &forwarded)
        .await;
    assert_eq!(opened.status, 201, "{opened:?}");
    assert!(opened.body["url"].as_str().unwrap().starts_with("http"));
    let sent = app.writes().pop().unwrap();
    assert_eq!(sent.path, "/v1/checkouts/");
    assert_eq!(
        sent.body,
        json!({"products": [app.product(Product::Pro)], "external_customer_id": company.id(),
            "customer_ip_address": "198.51.100.7", "success_url": "https://app.example.com/",
            "return_url": "https://app.example.com/billing", "embed_origin": "https://app.example.com"})
    );
}

#[tokio::test]
async fn the_address_that_a_trusted_proxy_forwards_is_told_whoever_calls() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let body = plan(&app, Product::Pro);
    let forwarded = [("x-forwarded-for", "198.51.100.7")];
    let path = company.at("/subscription");
    let owner = As::ServerFor(company.tenant.owner.clone());
    for who in [As::Server, owner, company.owner()] {
        let opened = app.send(&who, "POST", &path, Some(&body), &forwarded).await;
        assert_eq!(opened.status, 201, "{who:?}: {opened:?}");
        let sent = app.writes().pop().unwrap();
        assert_eq!(sent.path, "/v1/checkouts/");
        assert_eq!(sent.body["customer_ip_address"], "198.51.100.7", "{who:?}");
    }
}

#[tokio::test]
async fn whoever_pays_for_a_plan_buys_no_second_one_and_whoever_has_a_free_one_replaces_it() {
    let app = ApiApp::open().await;
    let (paying, free) = (app.customer_of(Product::Pro).await, app.company().await);
    let path = paying.at("/subscription");
    let refused = app
        .tell_api(&paying.owner(), "POST", &path, &plan(&app, Product::Scale))
        .await;
    assert_eq!(
        (refused.status, refused.error()),
        (409, "PolarSelfAlreadySubscribed")
    );
    app.simulator.pause(paying.id()).await.unwrap();
    let refused = app
        .tell_api(&paying.owner(), "POST", &path, &plan(&app, Product::Scale))
        .await;
    assert_eq!(refused.status, 409);
    let subscription = app
        .simulator
        .purchase(free.id(), Product::Free)
        .await
        .unwrap();
    let path = free.at("/subscription");
    let opened = app
        .tell_api(&free.owner(), "POST", &path, &plan(&app, Product::Pro))
        .await;
    assert_eq!(opened.status, 201, "{opened:?}");
    let sent = app.writes().pop().unwrap();
    assert_eq!(sent.body["subscription_id"], json!(subscription));
}

#[tokio::test]
async fn a_dearer_plan_comes_at_once_and_a_cheaper_one_with_the_next_period() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let up = change(&app, &company, Product::Growth).await;
    assert_eq!(up.status, 200, "{up:?}");
    assert_eq!(up.body["plan"]["name"], "Growth");
    assert_eq!(
        app.plan_in_tables(&company).await,
        ("Growth".to_owned(), false)
    );
    let down = change(&app, &company, Product::Pro).await;
    assert_eq!(down.body["plan"]["name"], "Growth");
    assert_eq!(
        down.body["pending_change"]["product_id"],
        json!(app.product(Product::Pro))
    );
    let kept = change(&app, &company, Product::Growth).await;
    assert_eq!(
        kept.body["pending_change"],
        Value::Null,
        "the plan that it has takes the change back"
    );
    let nothing = change(&app, &company, Product::Growth).await;
    assert_eq!(
        (nothing.status, &nothing.body["plan"]["name"]),
        (200, &json!("Growth"))
    );
    assert_eq!(
        app.subscription_changes(),
        [
            json!({"product_id": app.product(Product::Growth), "proration_behavior": "invoice"}),
            json!({"product_id": app.product(Product::Pro), "proration_behavior": "next_period"}),
            json!({"pending_update": null}),
        ]
    );
}

#[tokio::test]
async fn a_year_for_less_per_month_comes_with_the_next_period_and_a_dearer_month_of_it_at_once() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    // Only people change the catalogue, so the description of what we may call lacks it.
    app.simulator.provoked(1);
    let yearly = json!({
        "name": "Pro, by the year", "recurring_interval": "year",
        "prices": [{"amount_type": "fixed", "price_amount": 12 * 1_800, "price_currency": "usd"}],
    });
    let made = app.at_polar("POST", "/v1/products/", Some(&yearly)).await;
    let yearly = json!({"product_id": made["id"]});
    let path = company.at("/subscription");
    let waits = app
        .tell_api(&company.owner(), "PATCH", &path, &yearly)
        .await;
    assert_eq!(waits.body["plan"]["name"], "Pro", "{waits:?}");
    assert_eq!(waits.body["pending_change"]["product_id"], made["id"]);
    let renewed = app
        .simulator
        .step(company.id(), SubscriptionStep::Renew)
        .await;
    renewed.unwrap();
    let comes = change(&app, &company, Product::Growth).await;
    assert_eq!(comes.body["plan"]["name"], "Growth", "{comes:?}");
}

#[tokio::test]
async fn ending_twice_is_ending_once_and_the_same_plan_takes_it_back() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let path = company.at("/subscription");
    let first = app.ask(&company.owner(), "DELETE", &path).await;
    let again = app.ask(&company.owner(), "DELETE", &path).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.body["cancel_at_period_end"], true);
    assert_eq!(first.body["subscription_id"], again.body["subscription_id"]);
    assert_eq!(app.plan_in_tables(&company).await, ("Pro".to_owned(), true));
    let resumed = change(&app, &company, Product::Pro).await;
    assert_eq!(resumed.body["cancel_at_period_end"], false);
    assert_eq!(
        app.plan_in_tables(&company).await,
        ("Pro".to_owned(), false)
    );
    assert_eq!(
        app.subscription_changes(),
        [
            json!({"cancel_at_period_end": true}),
            json!({"cancel_at_period_end": false})
        ]
    );
}

#[tokio::test]
async fn a_cancelled_subscription_is_resumed_before_its_plan_changes() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    app.simulator
        .cancel_at_period_end(company.id())
        .await
        .unwrap();
    let up = change(&app, &company, Product::Scale).await;
    assert_eq!(up.status, 200, "{up:?}");
    assert_eq!(up.body["cancel_at_period_end"], false);
    assert_eq!(up.body["plan"]["name"], "Scale");
    assert_eq!(
        app.subscription_changes()[0],
        json!({"cancel_at_period_end": false})
    );
    assert_eq!(app.count(RESUMED).await, 0);
}

#[tokio::test]
async fn a_cancellation_is_restored_where_the_payment_fails() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    app.simulator
        .purchase(company.id(), Product::Pro)
        .await
        .unwrap();
    let no_card = app
        .simulator
        .set_billing_details(company.id(), Value::Null, false);
    no_card.await.unwrap();
    app.simulator
        .cancel_at_period_end(company.id())
        .await
        .unwrap();
    let declined = change(&app, &company, Product::Scale).await;
    assert_eq!((declined.status, declined.error()), (402, "PaymentFailed"));
    let view = app
        .ask(&As::Server, "GET", &company.at("/subscription"))
        .await;
    assert_eq!(view.body["cancel_at_period_end"], true);
    assert_eq!(view.body["plan"]["name"], "Pro");
    assert_eq!(app.count(RESUMED).await, 0);
}

/// As a process leaves it that took a cancellation back for Scale, and died before it changed the plan.
async fn leave_resumed_for_scale(app: &ApiApp, company: &Company) {
    let id = app.simulator.subscriptions(company.id())[0].id;
    sqlx::query("INSERT INTO polar_jobs.resumed_subscriptions VALUES ($1::uuid, $2, $3)")
        .bind(company.id())
        .bind(id)
        .bind(app.product(Product::Scale))
        .execute(&app.pool)
        .await
        .unwrap();
    let enqueue = "SELECT polar_jobs.enqueue('restore_cancellation', jsonb_build_object('organization_id', $1::text))";
    sqlx::query(enqueue)
        .bind(company.id())
        .execute(&app.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cancellation_whose_change_was_never_made_is_restored_by_the_job_that_was_written_before()
{
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    leave_resumed_for_scale(&app, &company).await;
    app.drain().await;
    let view = app
        .ask(&As::Server, "GET", &company.at("/subscription"))
        .await;
    assert_eq!(view.body["cancel_at_period_end"], true);
    assert_eq!(app.end("restore_cancellation").await.0, "applied");
    assert_eq!(app.plan_in_tables(&company).await, ("Pro".to_owned(), true));
}

/// A worker without a token claims it while another release is rolled out, or it is given up.
#[tokio::test]
async fn a_cancellation_that_was_not_restored_is_restored_within_the_hour() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    leave_resumed_for_scale(&app, &company).await;
    app.drain_without_billing().await;
    assert_eq!(app.end("restore_cancellation").await.0, "ignored");
    let resume = async || {
        let mut connection = app.pool.acquire().await.unwrap();
        let job = NewJob::of(&ResumeSyncs::default());
        enqueue::insert(&mut connection, &job).await.unwrap();
        app.drain().await;
    };
    resume().await;
    assert_eq!(app.ends("restore_cancellation").await.len(), 1, "too soon");
    pass_minutes(&app).await;
    resume().await;
    assert_eq!(app.end("restore_cancellation").await.0, "applied");
    assert_eq!(app.plan_in_tables(&company).await, ("Pro".to_owned(), true));
    assert_eq!(app.count(RESUMED).await, 0);
}

/// As if a process had held the lease for too long.
async fn expire_lease(app: &ApiApp) {
    let expire = "UPDATE polar_jobs.subscription_change_leases SET expires_at = clock_timestamp()";
    sqlx::query(expire).execute(&app.pool).await.unwrap();
}

async fn pass_minutes(app: &ApiApp) {
    let age = "UPDATE polar_jobs.resumed_subscriptions SET resumed_at = resumed_at - interval '11 minutes'";
    sqlx::query(age).execute(&app.pool).await.unwrap();
}

#[tokio::test]
async fn a_change_that_a_person_makes_while_a_restoration_stands_still_is_not_cancelled() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    leave_resumed_for_scale(&app, &company).await;
    let id = app.simulator.subscriptions(company.id())[0].id;
    let look = RequestMatch::path(&format!("/v1/subscriptions/{id}")).method("GET");
    let held = app.simulator.hold(look.after_commit());
    let worker = app.work();
    assert!(held.wait_for(1, DEADLINE).await, "it has looked");
    expire_lease(&app).await;
    let changed = change(&app, &company, Product::Scale).await;
    assert_eq!(
        (changed.status, &changed.body["cancel_at_period_end"]),
        (200, &json!(false))
    );
    held.release_all();
    worker.stop().await;
    app.resolve_waits().await;
    assert_eq!(
        app.plan_in_tables(&company).await,
        ("Scale".to_owned(), false)
    );
    assert_eq!(app.end("restore_cancellation").await.0, "ignored");
}

#[tokio::test]
async fn a_restoration_that_stood_still_leaves_the_note_of_the_change_after_it() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    leave_resumed_for_scale(&app, &company).await;
    let patches = RequestMatch::path("/v1/subscriptions/").method("PATCH");
    let held = app.simulator.hold(patches.after_commit());
    let worker = app.work();
    assert!(held.wait_for(1, DEADLINE).await, "Polar has cancelled");
    expire_lease(&app).await;
    // As another process leaves it that takes this cancellation back, and dies then.
    app.simulator.uncancel(company.id()).await.unwrap();
    let target = "UPDATE polar_jobs.resumed_subscriptions SET product_id = $1";
    let target = sqlx::query(target).bind(app.product(Product::Growth));
    target.execute(&app.pool).await.unwrap();
    held.release_all();
    worker.stop().await;
    app.resolve_waits().await;
    assert_eq!(app.plan_in_tables(&company).await, ("Pro".to_owned(), true));
    assert_eq!(app.count(RESUMED).await, 0);
}

#[tokio::test]
async fn a_subscription_that_is_cancelled_while_its_cancellation_is_restored_is_restored() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    leave_resumed_for_scale(&app, &company).await;
    let patches = RequestMatch::path("/v1/subscriptions/").method("PATCH");
    let held = app.simulator.hold(patches.on_arrival());
    let worker = app.work();
    assert!(held.wait_for(1, DEADLINE).await, "it has looked");
    app.simulator
        .cancel_at_period_end(company.id())
        .await
        .unwrap();
    held.release_all();
    worker.stop().await;
    app.resolve_waits().await;
    assert_eq!(app.end("restore_cancellation").await.0, "ignored");
    assert_eq!(app.count(RESUMED).await, 0);
}

#[tokio::test]
async fn who_decides_to_keep_the_plan_after_a_change_that_could_not_be_known_is_not_cancelled_afterwards()
 {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    leave_resumed_for_scale(&app, &company).await;
    let kept = change(&app, &company, Product::Pro).await;
    assert_eq!(
        (kept.status, &kept.body["cancel_at_period_end"]),
        (200, &json!(false))
    );
    app.drain().await;
    let view = app
        .ask(&company.owner(), "GET", &company.at("/subscription"))
        .await;
    assert_eq!(
        (
            &view.body["plan"]["name"],
            &view.body["cancel_at_period_end"]
        ),
        (&json!("Pro"), &json!(false)),
        "nothing undoes what was answered"
    );
    assert_eq!(app.end("restore_cancellation").await.0, "ignored");
}

#[tokio::test]
async fn a_cancellation_that_fails_leaves_the_one_that_is_to_be_restored() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    leave_resumed_for_scale(&app, &company).await;
    let lock = format!("/simulator/customers/{}/lock", company.id());
    let lock = Intervention::call("POST", &lock, Value::Null);
    let looks = RequestMatch::path("/v1/subscriptions").method("GET");
    let armed = app.simulator.arm(looks.after_commit(), lock);
    let path = company.at("/subscription");
    let refused = app.ask(&company.owner(), "DELETE", &path).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert_eq!(armed.status(), Some(200));
    let unlock = SubscriptionStep::Unlock;
    let unlocked = app.simulator.step(company.id(), unlock).await;
    unlocked.unwrap();
    app.drain().await;
    assert_eq!(app.end("restore_cancellation").await.0, "applied");
    assert_eq!(app.plan_in_tables(&company).await, ("Pro".to_owned(), true));
}

#[tokio::test]
async fn another_change_after_one_that_died_is_not_undone_where_its_process_dies_as_well() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    leave_resumed_for_scale(&app, &company).await;
    let patches = RequestMatch::path("/v1/subscriptions/").method("PATCH");
    let held = app.simulator.hold(patches.after_commit());
    let mut process = IngressProcess::start(&app, &[]).await;
    let url = format!("http://{}{}", process.address, company.at("/subscription"));
    let body = json!({"product_id": app.product(Product::Growth)});
    let request = http().patch(url).bearer_auth(TOKEN_OF_PROCESS).json(&body);
    let asked = tokio::spawn(request.send());
    assert!(held.wait_for(1, DEADLINE).await, "Polar has made it");
    process.kill();
    assert!(asked.await.unwrap().is_err(), "nobody answered");
    held.release_all();
    expire_lease(&app).await;
    app.hurry().await;
    app.drain().await;
    assert_eq!(
        app.plan_in_tables(&company).await,
        ("Growth".to_owned(), false)
    );
    assert_eq!(app.end("restore_cancellation").await.0, "ignored");
}

#[tokio::test]
async fn a_change_that_waits_already_is_not_made_again() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Growth).await;
    let first = change(&app, &company, Product::Pro).await;
    let again = change(&app, &company, Product::Pro).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(
        again.body["pending_change"]["product_id"],
        json!(app.product(Product::Pro))
    );
    assert_eq!(first.body, again.body);
    assert_eq!(app.subscription_changes().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_chosen_is_refused_in_the_order_plan_approval_subscription() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let path = company.at("/subscription");
    app.tell(&[
        json!({"type": "organization.updated", "data": {"id": company.id(), "status": "blocked"}}),
    ])
    .await;
    app.drain().await;
    let before = app.writes().len();
    for method in ["POST", "PATCH"] {
        let ask = async |product: Value| {
            let body = json!({"product_id": product});
            app.tell_api(&company.owner(), method, &path, &body).await
        };
        for unknown in [
            json!(uuid::Uuid::new_v4()),
            json!("pro"),
            json!(app.product(Product::Free)),
        ] {
            let refused = ask(unknown).await;
            assert_eq!(
                (refused.status, refused.error()),
                (404, "PolarSelfPlanNotFound"),
                "{method}"
            );
        }
        let refused = ask(json!(app.product(Product::Pro))).await;
        assert_eq!(
            (refused.status, refused.error()),
            (403, "PolarSelfNotApproved"),
            "{method}"
        );
        let invalid = app
            .tell_api(&company.owner(), method, &path, &json!({}))
            .await;
        assert_eq!(invalid.status, 422);
        assert_eq!(
            invalid.body["detail"][0]["loc"],
            json!(["body", "product_id"])
        );
    }
    assert_eq!(app.writes().len(), before, "nothing is created");
    app.tell(&[
        json!({"type": "organization.updated", "data": {"id": company.id(), "status": "review"}}),
    ])
    .await;
    app.drain().await;
    let none = change(&app, &company, Product::Pro).await;
    assert_eq!(
        (none.status, none.error()),
        (404, "PolarSelfNoActiveSubscription")
    );
    let none = app.ask(&company.owner(), "DELETE", &path).await;
    assert_eq!(
        (none.status, none.error()),
        (404, "PolarSelfNoActiveSubscription")
    );
}

#[tokio::test]
async fn an_organization_that_is_not_approved_may_end_its_plan() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    app.tell(&[
        json!({"type": "organization.updated", "data": {"id": company.id(), "status": "denied"}}),
    ])
    .await;
    app.drain().await;
    let ended = app
        .ask(&company.owner(), "DELETE", &company.at("/subscription"))
        .await;
    assert_eq!(
        (ended.status, &ended.body["cancel_at_period_end"]),
        (200, &json!(true))
    );
}

#[tokio::test]
async fn a_paused_subscription_takes_another_plan_but_no_end() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Scale).await;
    app.simulator.pause(company.id()).await.unwrap();
    let ended = app
        .ask(&company.owner(), "DELETE", &company.at("/subscription"))
        .await;
    assert_eq!(
        (ended.status, ended.error()),
        (409, "PolarSelfSubscriptionEnded")
    );
    assert_eq!(change(&app, &company, Product::Pro).await.status, 200);
}

#[tokio::test]
async fn an_organization_without_a_customer_is_made_one_and_asked_to_come_again() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    app.at_polar(
        "DELETE",
        &format!("/v1/customers/external/{}?anonymize=true", company.id()),
        None,
    )
    .await;
    let path = company.at("/subscription");
    let early = app
        .tell_api(&company.owner(), "POST", &path, &plan(&app, Product::Pro))
        .await;
    assert_eq!(
        (early.status, early.error()),
        (409, "PolarSelfCustomerNotReady")
    );
    assert!(early.retry_after().is_some());
    app.drain().await;
    let opened = app
        .tell_api(&company.owner(), "POST", &path, &plan(&app, Product::Pro))
        .await;
    assert_eq!(opened.status, 201, "{opened:?}");
}

#[tokio::test]
async fn two_hundred_clicks_at_two_servers_change_the_plan_once() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    // The first one is held at Polar until a few of the others were answered.
    let held = app
        .simulator
        .hold(RequestMatch::path("/v1/subscriptions/").method("PATCH"));
    let other = second_server(&app, client(&app, Arc::new(Unlimited))).await;
    let (path, body) = (company.at("/subscription"), plan(&app, Product::Scale));
    let click = async |server: usize| match server {
        0 => app.tell_api(&company.owner(), "PATCH", &path, &body).await,
        _ => {
            other
                .send(&company.owner(), "PATCH", &path, Some(&body))
                .await
        }
    };
    let mut clicks: FuturesUnordered<_> = (0..200).map(|number| click(number % 2)).collect();
    let mut answers = Vec::new();
    while let Some(answer) = clicks.next().await {
        answers.push(answer);
        if answers.len() == 10 {
            held.release_all();
        }
    }
    drop(clicks);
    let statuses: BTreeSet<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses.is_subset(&[200, 409].into()), "{statuses:?}");
    for answer in &answers {
        match answer.status {
            200 => assert_eq!(answer.body["plan"]["name"], "Scale"),
            _ => assert!(answer.retry_after().is_some()),
        }
    }
    assert_eq!(app.subscription_changes().len(), 1, "one change at Polar");
    let view = app
        .ask(&company.owner(), "GET", &company.at("/subscription"))
        .await;
    assert_eq!(view.body["plan"]["name"], "Scale");
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_before_anything_is_said() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let patches = || RequestMatch::path("/v1/subscriptions/").method("PATCH");
    let made = app.simulator.hold(patches().after_commit());
    let up = change(&app, &company, Product::Growth).await;
    assert_eq!(
        (up.status, &up.body["plan"]["name"]),
        (200, &json!("Growth"))
    );
    drop(made);
    let not_made = app.simulator.hold(patches());
    let unknown = change(&app, &company, Product::Scale).await;
    assert_eq!((unknown.status, unknown.retry_after()), (503, Some(5)));
    drop(not_made);
}

#[tokio::test]
async fn a_change_that_polar_is_still_at_work_on_is_waited_for() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let path = format!(
        "/v1/subscriptions/{}",
        app.simulator.subscriptions(company.id())[0].id
    );
    let unanswered = app
        .simulator
        .hold(RequestMatch::path(&path).method("PATCH"));
    // It is done when the first look at it has found the former plan.
    let first_look = RequestMatch::path(&path).method("GET").after_commit();
    let body = json!({"product_id": app.product(Product::Scale), "proration_behavior": "invoice"});
    let done = app
        .simulator
        .arm(first_look, Intervention::call("PATCH", &path, body));
    let changed = change(&app, &company, Product::Scale).await;
    assert_eq!(done.status(), Some(200));
    assert_eq!(
        (changed.status, &changed.body["plan"]["name"]),
        (200, &json!("Scale"))
    );
    drop(unanswered);
}
