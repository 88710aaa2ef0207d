//! `call_app`: the application is told what changed, and called by jobs of its own.

use serde_json::{Value, json};
use simulator::Product;

use crate::application::{Answer, Application};
use crate::benefits::{buy, open};
use crate::test_app::{Tenant, TestApp};

/// An installation with one synced organization, whose workers tell an application.
async fn open_with(answers: &[Answer]) -> (TestApp, Tenant, Application) {
    let (mut app, tenant) = open().await;
    let application = Application::start(answers).await;
    app.webhook = Some(application.webhook());
    app.drain().await;
    (app, tenant, application)
}

/// Changes what the organization may do, as a job of ours does: one statement, one commit.
async fn set_preview(app: &TestApp, tenant: &Tenant, preview: bool) {
    sqlx::query(
        "UPDATE polar_jobs.organizations SET preview_access = $2 WHERE id = $1::text::uuid",
    )
    .bind(&tenant.id)
    .bind(preview)
    .execute(&app.pool)
    .await
    .unwrap();
}

async fn enqueue(app: &TestApp, payload: Value, max_attempts: i32) {
    sqlx::query("SELECT polar_jobs.enqueue('call_app', $1, max_attempts => $2)")
        .bind(payload)
        .bind(max_attempts)
        .execute(&app.pool)
        .await
        .unwrap();
}

/// Failures of the jobs that call the application and are not done, in order.
async fn failures(app: &TestApp) -> Vec<(i32, Option<String>)> {
    sqlx::query_as(
        "SELECT jsonb_array_length(errors), errors -> -1 ->> 'error' FROM polar_jobs.jobs
          WHERE kind = 'call_app' AND finished_at IS NULL ORDER BY id",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap()
}

async fn calls(app: &TestApp) -> i64 {
    app.count("SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'call_app'")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_is_told_with_the_values_in_force_and_so_is_its_end() {
    let (app, tenant, application) = open_with(&[]).await;
    buy(&app, &tenant, Product::Scale).await;
    app.drain().await;
    let news = application.news();
    let entitlements = news
        .iter()
        .rfind(|(kind, _)| kind == "entitlements.changed");
    let expected = json!({"organization_id": tenant.id, "plan": "Scale", "subscription_status": "active",
        "support_tier": "scale", "preview_access": true, "sso_enabled": true});
    assert_eq!(entitlements.unwrap().1, expected);
    let fees = news
        .iter()
        .rfind(|(kind, _)| kind == "fees.changed")
        .unwrap();
    assert_eq!(fees.1["organization_id"], tenant.id);
    assert_eq!(
        [
            &fees.1["fee_basis_points"],
            &fees.1["fee_fixed"],
            &fees.1["subscription_fee_basis_points"]
        ],
        [&json!(340), &json!(25), &json!(0)]
    );

    app.simulator.revoke(&tenant.id).await.unwrap();
    app.work_until_idle().await;
    app.drain().await;
    let news = application.news();
    let entitlements = news
        .iter()
        .rfind(|(kind, _)| kind == "entitlements.changed");
    assert_eq!(entitlements.unwrap().1["plan"], "Free");
    let fees = news
        .iter()
        .rfind(|(kind, _)| kind == "fees.changed")
        .unwrap();
    assert_eq!(fees.1["fee_basis_points"], 500);
    assert!(
        application
            .received()
            .iter()
            .all(|one| one.path == "/hooks/")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nobody_is_told_and_no_job_waits() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Growth).await;
    assert_eq!(calls(&app).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_the_setting_was_there_is_told_to_nobody_once_it_is_gone() {
    let (app, tenant, application) = open_with(&[]).await;
    set_preview(&app, &tenant, true).await;
    app.drain_with(|settings| settings.app_webhook = None).await;
    assert_eq!(application.received().len(), 0);
    let (outcome, note) = app.end("call_app").await;
    assert_eq!(outcome, "ignored");
    assert!(note.contains("APP_WEBHOOK_URL"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_nobody_was_told_is_told_once_somebody_is() {
    let (app, tenant, application) = open_with(&[]).await;
    app.drain_with(|settings| settings.app_webhook = None).await;
    set_preview(&app, &tenant, true).await;
    assert_eq!(calls(&app).await, 0);
    app.drain().await;
    let mut news = application.news();
    news.sort_by(|(one, _), (other, _)| one.cmp(other));
    let kinds: Vec<&str> = news.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["entitlements.changed", "fees.changed"]);
    assert_eq!(news[0].1["preview_access"], true);
    app.drain().await;
    assert_eq!(application.news().len(), 2, "once");
}

/// During a roll-out of the setting an older worker may take them.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_setting_leaves_messages_to_those_that_have_it() {
    let (app, tenant, application) = open_with(&[]).await;
    let older = app.work_with(|settings| settings.app_webhook = None);
    let declared = "SELECT count(*) FROM polar_jobs.app_webhook WHERE NOT is_set";
    app.until("the older one has declared itself", async || {
        app.count(declared).await == 1
    })
    .await;
    sqlx::query("UPDATE polar_jobs.app_webhook SET is_set = true")
        .execute(&app.pool)
        .await
        .unwrap();
    set_preview(&app, &tenant, true).await;
    enqueue(&app, json!({"number": 1}), 20).await;
    let released =
        "SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'call_app' AND state = 'available'
                       AND note LIKE '%waits for one that has'";
    app.until("it has seen both", async || app.count(released).await == 2)
        .await;
    older.stop().await;
    app.hurry().await;
    app.drain().await;
    assert_eq!(application.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_plan_does_not_wait_behind_a_change_of_everybodys_fees() {
    let (app, tenant, _application) = open_with(&[]).await;
    sqlx::query("UPDATE polar_jobs.platform_fees SET fee_basis_points = 700")
        .execute(&app.pool)
        .await
        .unwrap();
    let urgent = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'call_app' AND NOT blocked AND priority = 0";
    assert_eq!(app.count(urgent).await, 0);
    set_preview(&app, &tenant, true).await;
    assert_eq!(app.count(urgent).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_is_written_in_the_transaction_of_the_change() {
    let (app, tenant, application) = open_with(&[]).await;
    let change = "UPDATE polar_jobs.organizations SET sso_enabled = true WHERE id = $1::text::uuid";
    let mut transaction = app.pool.begin().await.unwrap();
    sqlx::query(change)
        .bind(&tenant.id)
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(calls(&app).await, 0, "not before the commit");
    transaction.rollback().await.unwrap();
    assert_eq!(calls(&app).await, 0, "not without it");
    let mut transaction = app.pool.begin().await.unwrap();
    sqlx::query(change)
        .bind(&tenant.id)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(calls(&app).await, 1);
    app.drain().await;
    assert_eq!(application.news().pop().unwrap().1["sso_enabled"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_was_lost_comes_again_with_the_same_id() {
    let (app, tenant, application) = open_with(&[Answer::Lost]).await;
    set_preview(&app, &tenant, true).await;
    app.drain().await;
    assert_eq!(application.received().len(), 1);
    assert_eq!(failures(&app).await[0].0, 1);
    app.hurry().await;
    app.drain().await;
    let received = application.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].id, received[1].id);
    assert_eq!(received[0].body["data"], received[1].body["data"]);
    assert_eq!(failures(&app).await, []);
}

/// Whoever has seen the first message would take the second for its repetition, and never learn what holds now.
#[tokio::test(flavor = "multi_thread")]
async fn news_that_join_a_message_whose_answer_was_lost_come_with_another_id() {
    let (app, tenant, application) = open_with(&[Answer::Lost]).await;
    set_preview(&app, &tenant, true).await;
    app.drain().await;
    set_preview(&app, &tenant, false).await;
    assert_eq!(calls(&app).await, 1, "they joined it");
    app.drain().await;
    let received = application.received();
    assert_eq!(received.len(), 2);
    assert_ne!(received[0].id, received[1].id);
    assert_eq!(received[1].body["data"]["preview_access"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_tried_again_and_redirects_are_not_followed() {
    let (app, tenant, application) = open_with(&[
        Answer::Status(400, ""),
        Answer::Status(410, ""),
        Answer::Status(302, "location: /elsewhere\r\n"),
        Answer::Status(503, ""),
    ])
    .await;
    set_preview(&app, &tenant, true).await;
    for (attempt, words) in [
        (1, "400"),
        (2, "410"),
        (3, "redirects are not followed"),
        (4, "503"),
    ] {
        app.drain().await;
        let (count, error) = failures(&app).await.remove(0);
        assert_eq!(count, attempt);
        assert!(error.unwrap().contains(words), "{words}");
        app.hurry().await;
    }
    app.drain().await;
    assert_eq!(application.received().len(), 5);
    assert!(
        application
            .received()
            .iter()
            .all(|one| one.path == "/hooks/")
    );
    assert_eq!(app.end("call_app").await.0, "applied");
}

/// Nobody would tell it again, and only one organization changed: nothing says that the application is down.
#[tokio::test(flavor = "multi_thread")]
async fn news_outlive_a_night_in_which_the_application_is_gone() {
    const ATTEMPTS: usize = 25;
    let (app, tenant, application) = open_with(&[Answer::Status(503, ""); ATTEMPTS]).await;
    set_preview(&app, &tenant, true).await;
    for attempt in 1..=ATTEMPTS {
        app.drain().await;
        let (count, _) = failures(&app).await.remove(0);
        assert_eq!(usize::try_from(count), Ok(attempt.min(10)));
        app.hurry().await;
    }
    app.drain().await;
    assert_eq!(application.received().len(), ATTEMPTS + 1);
    assert_eq!(app.end("call_app").await.0, "applied");
}

/// Others of the organization wait behind them.
#[tokio::test(flavor = "multi_thread")]
async fn news_that_get_no_answer_for_days_are_given_up() {
    let (app, tenant, _application) = open_with(&[Answer::Status(503, ""); 30]).await;
    set_preview(&app, &tenant, true).await;
    for _attempt in 0..12 {
        app.drain().await;
        app.hurry().await;
    }
    assert_eq!(failures(&app).await.len(), 1);
    let days_ago = "UPDATE polar_jobs.live_jobs SET attempt = attempt + 5000,
        errors = jsonb_set(errors, '{0,at}', to_jsonb(now() - $1::interval)) WHERE kind = 'call_app'";
    let days_ago = async |days: &str| {
        let moved = sqlx::query(days_ago).bind(days).execute(&app.pool).await;
        moved.unwrap();
    };
    days_ago("3 days 23 hours").await;
    for _attempt in 0..3 {
        app.drain().await;
        app.hurry().await;
    }
    assert_eq!(
        failures(&app).await[0].0,
        10,
        "however often it was claimed meanwhile"
    );
    days_ago("4 days 1 hour").await;
    for _attempt in 0..10 {
        app.drain().await;
        app.hurry().await;
    }
    assert_eq!(app.end("call_app").await.0, "discarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_asks_for_time_gets_it_and_no_failure_is_counted() {
    let (app, tenant, application) =
        open_with(&[Answer::Status(429, "retry-after: 100\r\n")]).await;
    set_preview(&app, &tenant, true).await;
    app.drain().await;
    assert_eq!(application.received().len(), 1);
    assert_eq!(failures(&app).await[0].0, 0);
    let wait = "SELECT extract(epoch FROM run_at - now())::bigint FROM polar_jobs.live_jobs WHERE kind = 'call_app'";
    let wait = app.count(wait).await;
    assert!((60..=200).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_organization_come_one_at_a_time_and_the_last_tells_what_holds() {
    let (app, tenant, application) = open_with(&[Answer::Held]).await;
    let working = app.work();
    set_preview(&app, &tenant, true).await;
    app.until("the first message", async || {
        application.received().len() == 1
    })
    .await;
    set_preview(&app, &tenant, false).await;
    set_preview(&app, &tenant, true).await;
    set_preview(&app, &tenant, false).await;
    let waiting =
        "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'call_app' AND worker IS NULL";
    assert_eq!(
        app.count(waiting).await,
        1,
        "one message waits, for all the news"
    );
    assert_eq!(application.received().len(), 1);
    application.release();
    app.until("the second message", async || {
        application.received().len() == 2
    })
    .await;
    let data = application.news().pop().unwrap().1;
    assert_eq!(data["preview_access"], false);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_hangs_delays_nothing_else() {
    let held = [Answer::Held; 40];
    let (app, tenant, application) = open_with(&held).await;
    let working = app.work();
    for number in 0..40 {
        enqueue(&app, json!({"number": number}), 20).await;
    }
    app.until("calls that hang", async || {
        application.received().len() >= 10
    })
    .await;
    app.tell(&[tenant.added(&crate::test_app::user(), "new@example.com", "member")])
        .await;
    app.until("the member at Polar", async || {
        app.simulator.members(&tenant.id).len() == 2
    })
    .await;
    let received = application.received().len();
    // On a slow machine the time of some is over by now, and others have their slots.
    let over: i32 = failures(&app).await.iter().map(|(count, _)| count).sum();
    assert!(
        received <= 10 + usize::try_from(over).unwrap(),
        "no more than the slots of its queue: {received}, {over} of them over"
    );
    for _ in 0..40 {
        application.release();
    }
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_does_not_answer_in_ten_seconds_is_asked_again_later() {
    let (app, tenant, application) = open_with(&[Answer::Held]).await;
    set_preview(&app, &tenant, true).await;
    app.drain().await;
    assert_eq!(application.received().len(), 1);
    let (count, error) = failures(&app).await.remove(0);
    assert_eq!(
        (count, error.as_deref()),
        (1, Some("the application did not answer within 10 s"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_the_application_arrive_below_its_address_and_end_when_their_budget_is_spent() {
    let (app, _, application) = open_with(&[]).await;
    enqueue(
        &app,
        json!({"path": "reports/weekly", "body": {"week": 7}}),
        20,
    )
    .await;
    enqueue(&app, json!({"path": "/a b/c", "x": 1}), 20).await;
    app.drain().await;
    let mut received = application.received();
    received.sort_by(|one, other| other.path.cmp(&one.path));
    assert_eq!(
        (&*received[0].path, &received[0].body),
        ("/hooks/reports/weekly", &json!({"week": 7}))
    );
    assert_eq!(
        (&*received[1].path, &received[1].body),
        ("/hooks/a%20b/c", &json!({"x": 1}))
    );

    let refusing = Application::start(&[Answer::Status(500, ""), Answer::Status(404, "")]).await;
    enqueue(&app, json!({"x": 2}), 2).await;
    for _attempt in 0..2 {
        app.drain_with(|settings| settings.app_webhook = Some(refusing.webhook()))
            .await;
        app.hurry().await;
    }
    let (state, error) = app.end("call_app").await;
    assert_eq!(state, "discarded");
    assert!(error.contains("404"), "{error}");

    enqueue(&app, json!({"path": "../other"}), 20).await;
    app.drain().await;
    assert!(app.end("call_app").await.1.contains("leads out"));
    enqueue(&app, json!({"x": 3}), 20).await;
    app.drain_with(|settings| settings.app_webhook = None).await;
    let (state, error) = app.end("call_app").await;
    assert_eq!(state, "discarded");
    assert!(error.contains("APP_WEBHOOK_URL is not set"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_platforms_fees_is_told_to_every_organization_and_an_outage_spends_no_budget()
 {
    let (app, _, application) = open_with(&[]).await;
    let more: Vec<Tenant> = (0..39).map(|_| Tenant::new()).collect();
    let created: Vec<Value> = more.iter().map(Tenant::created).collect();
    app.tell(&created).await;
    app.drain_without_billing().await;
    let down = Application::start(&[Answer::Status(503, ""); 100]).await;
    app.drain_with(|settings| {
        settings.app_webhook = Some(down.webhook());
        settings.platform_fees.fixed = 51;
    })
    .await;
    assert_eq!(failures(&app).await.len(), 40);
    let counted: i32 = failures(&app).await.iter().map(|(count, _)| count).sum();
    assert_eq!(
        counted, 4,
        "the fifth in a row is the application's failure"
    );

    app.hurry().await;
    app.drain_with(|settings| settings.platform_fees.fixed = 51)
        .await;
    let news = application.news();
    assert_eq!(news.len(), 40);
    assert!(
        news.iter()
            .all(|(kind, data)| kind == "fees.changed" && data["fee_fixed"] == 51)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_of_an_organization_that_was_deleted() {
    let (app, tenant, application) = open_with(&[]).await;
    buy(&app, &tenant, Product::Pro).await;
    let told = application.received().len();
    assert!(told > 0);
    app.tell(&[tenant.deleted()]).await;
    app.work_until_idle().await;
    assert_eq!(application.received().len(), told);
    assert_eq!(failures(&app).await, []);
}
