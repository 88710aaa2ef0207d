//! `endpoint show`, `create`, `enable`, `rotate-secret`.

use chrono::TimeDelta;
use serde_json::Value;

use crate::support::run_beside;
use crate::test_app::{DEADLINE, Tenant, TestApp};

const URL: &str = "https://app.example.com/integrations/polar/webhook";

const UNREACHABLE: &str = "http://127.0.0.1:9/integrations/polar/webhook";

/// The secret in what a command said.
fn secret(said: &str) -> String {
    let line = said.lines().find(|line| line.starts_with("whsec_"));
    line.unwrap_or_else(|| panic!("no secret in {said}"))
        .to_owned()
}

fn enabled(endpoints: &[Value]) -> Vec<bool> {
    let of_url = endpoints.iter().filter(|one| one["url"] == URL);
    of_url
        .map(|one| one["enabled"].as_bool().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn create_makes_an_endpoint_for_what_is_handled_and_none_where_one_is() {
    let app = TestApp::open().await;
    app.simulator.set_webhook_url(None);
    let made = app
        .command(&["--actor", "olga", "endpoint", "create", "--url", URL])
        .await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let there = app.endpoints().await;
    assert_eq!(secret(&made.out), there[1]["secret"].as_str().unwrap());
    let mut events: Vec<&str> = there[1]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event.as_str().unwrap())
        .collect();
    events.sort_unstable();
    assert_eq!(events, polar_jobs::ingress::required_events(false));
    let again = app.command(&["endpoint", "create", "--url", URL]).await;
    assert_eq!(again.code, Some(0));
    assert!(
        again.out.contains("is there already") && !again.out.contains("whsec_"),
        "{}",
        again.out
    );
    assert_eq!(app.endpoints().await.len(), there.len());
    let elsewhere = app
        .command(&[
            "endpoint",
            "create",
            "--url",
            "https://app.example.com/hooks",
        ])
        .await;
    assert_eq!(elsewhere.code, Some(2));
    let actions: Vec<(String, String)> =
        sqlx::query_as("SELECT actor, action FROM polar_jobs.operator_actions")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert_eq!(actions, [("olga".to_owned(), "endpoint create".to_owned())]);
    let everything: String =
        sqlx::query_scalar("SELECT string_agg(a::text, '') FROM polar_jobs.operator_actions a")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert!(!everything.contains("whsec_"), "no secret is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn create_refuses_an_address_at_which_the_ingress_does_not_answer_or_is_not_found_again() {
    let app = TestApp::open().await;
    let there = app.endpoints().await.len();
    for more in ["/", "?tenant=1", "#us", "?"] {
        let url = format!("{URL}{more}");
        let refused = app.command(&["endpoint", "create", "--url", &url]).await;
        assert_eq!(refused.code, Some(2), "{url}: {}", refused.out);
    }
    assert_eq!(app.endpoints().await.len(), there);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_made_by_hand_is_ours_where_the_ingress_answers_it_however_it_is_written() {
    let app = TestApp::open().await;
    app.simulator.set_webhook_url(None);
    let by_hand = async |url: &str| {
        let body = serde_json::json!({"url": url, "format": "raw", "events": ["order.created"]});
        app.at_polar("POST", "/v1/webhooks/endpoints", Some(&body))
            .await;
    };
    by_hand(&format!("{URL}/")).await;
    let lost = app.command(&["endpoint", "show", "--format", "json"]).await;
    assert!(!lost.out.contains("app.example.com"), "{}", lost.out);
    by_hand("https://App.Example.com:443/integrations/polar/webhook").await;
    let same = app.command(&["endpoint", "create", "--url", URL]).await;
    assert!(
        same.code == Some(0) && same.out.contains("is there already"),
        "{}{}",
        same.out,
        same.err
    );
    let queried = format!("{URL}?tenant=1");
    by_hand(&queried).await;
    let shown = app.command(&["endpoint", "show", "--format", "json"]).await;
    assert!(shown.out.contains(&queried), "{}", shown.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn show_tells_what_an_endpoint_lacks() {
    let app = TestApp::open().await;
    let said = app.command(&["endpoint", "show", "--format", "json"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let rows: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    assert_eq!((rows.len(), &rows[0]["enabled"]), (1, &Value::from(true)));
    assert_eq!(rows[0]["missing_events"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_no_longer_used_is_a_warning_once_another_delivers() {
    let app = TestApp::open().await;
    let before = app.endpoints().await[0]["id"].as_str().unwrap().to_owned();
    let disable = serde_json::json!({"enabled": false});
    let path = format!("/v1/webhooks/endpoints/{before}");
    app.at_polar("PATCH", &path, Some(&disable)).await;
    let line = async || {
        let said = app.command(&["doctor"]).await.out;
        let of_disabled = |line: &&str| line.contains(" is disabled");
        said.lines().find(of_disabled).unwrap().to_owned()
    };
    assert!(line().await.starts_with("error"));
    app.command(&["endpoint", "create", "--url", URL]).await;
    let warned = line().await;
    assert!(
        warned.starts_with("warning") && warned.contains(&before),
        "{warned}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_never_leaves_us_without_an_endpoint_whose_secret_is_deployed() {
    let app = TestApp::open().await;
    app.simulator.set_webhook_url(None);
    let old = secret(&app.command(&["endpoint", "create", "--url", URL]).await.out);
    let nothing_begun = app
        .command(&["endpoint", "rotate-secret", "--finish"])
        .await;
    assert_eq!(nothing_begun.code, Some(1), "{}", nothing_begun.out);
    let begun = app.command(&["endpoint", "rotate-secret"]).await;
    assert_eq!(begun.code, Some(0), "{}", begun.err);
    let new = secret(&begun.out);
    assert_ne!(old, new);
    assert_eq!(enabled(&app.endpoints().await), [true, false]);
    // Repeated, as after a crash, it goes on where it was.
    let repeated = app.command(&["endpoint", "rotate-secret"]).await;
    assert_eq!(secret(&repeated.out), new);
    assert_eq!(enabled(&app.endpoints().await), [true, false]);

    let with_old = app.ingress_with(&[&old]).await;
    let finish = async |address: &str| {
        let url = format!("http://{address}/integrations/polar/webhook");
        app.command(&["endpoint", "rotate-secret", "--finish", "--try-at", &url])
            .await
    };
    let refused = finish(&with_old).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("does not take the new secret"),
        "{}",
        refused.err
    );
    assert_eq!(
        enabled(&app.endpoints().await),
        [true, false],
        "nothing was changed"
    );

    let with_both = app.ingress_with(&[&old, &new]).await;
    let finished = finish(&with_both).await;
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    assert_eq!(enabled(&app.endpoints().await), [false, true]);
    let said = format!("{}{}", finished.out, finished.err);
    assert!(!said.contains("whsec_"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_endpoint_gave_up_is_asked_for_once_a_rotation_disables_it() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.simulator.set_webhook_url(Some(UNREACHABLE.to_owned()));
    let path = format!("/v1/customers/external/{}", tenant.id);
    let renamed = serde_json::json!({"name": "Renamed by hand"});
    app.at_polar("PATCH", &path, Some(&renamed)).await;
    for _step in 0..20 {
        app.simulator.advance(TimeDelta::minutes(10)).await;
    }
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    assert!(app.simulator.endpoint_enabled());
    app.simulator.set_webhook_url(Some(URL.to_owned()));
    let begun = app.command(&["endpoint", "rotate-secret"]).await;
    assert_eq!(begun.code, Some(0), "{}", begun.err);
    let new = secret(&begun.out);
    let address = app.ingress_with(&[&new]).await;
    let url = format!("http://{address}/integrations/polar/webhook");
    let finished = app
        .command(&["endpoint", "rotate-secret", "--finish", "--try-at", &url])
        .await;
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    app.drain().await;
    let compared = "SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'reconcile'";
    assert!(app.count(compared).await > 0, "a gap was noted, and closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_endpoints_at_several_addresses_is_refused() {
    let app = TestApp::open().await;
    app.simulator.set_webhook_url(None);
    let other = "https://new.example.com/integrations/polar/webhook";
    for url in [URL, other] {
        app.command(&["endpoint", "create", "--url", url]).await;
    }
    let there = app.endpoints().await.len();
    let refused = app.command(&["endpoint", "rotate-secret"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    assert!(
        refused.err.contains(URL) && refused.err.contains(other),
        "{}",
        refused.err
    );
    assert_eq!(app.endpoints().await.len(), there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_stopped_with_both_enabled_is_finished_by_repeating_it() {
    let app = TestApp::open().await;
    app.simulator.set_webhook_url(None);
    let old = secret(&app.command(&["endpoint", "create", "--url", URL]).await.out);
    let new = secret(&app.command(&["endpoint", "rotate-secret"]).await.out);
    let id = app.endpoints().await[2]["id"].as_str().unwrap().to_owned();
    let enable = serde_json::json!({"enabled": true});
    app.at_polar(
        "PATCH",
        &format!("/v1/webhooks/endpoints/{id}"),
        Some(&enable),
    )
    .await;
    let address = app.ingress_with(&[&old, &new]).await;
    let url = format!("http://{address}/integrations/polar/webhook");
    let finished = app
        .command(&["endpoint", "rotate-secret", "--finish", "--try-at", &url])
        .await;
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    assert_eq!(enabled(&app.endpoints().await), [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_endpoints_that_deliver_with_deployed_secrets_none_is_disabled_by_beginning_a_rotation()
 {
    let app = TestApp::open().await;
    app.simulator.set_webhook_url(None);
    let old = secret(&app.command(&["endpoint", "create", "--url", URL]).await.out);
    let new = secret(&app.command(&["endpoint", "rotate-secret"]).await.out);
    let id = app.endpoints().await[2]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/webhooks/endpoints/{id}");
    let enable = serde_json::json!({"enabled": true});
    app.at_polar("PATCH", &path, Some(&enable)).await;
    let begin = async |secrets: &str| {
        let mut settings = app.environment();
        settings.push(("POLAR_WEBHOOK_SECRET", secrets.to_owned()));
        run_beside(&settings, &["endpoint", "rotate-secret"]).await
    };
    let actions = "SELECT count(*) FROM polar_jobs.operator_actions";
    let before = app.count(actions).await;
    let refused = begin(&format!("{old} {new}")).await;
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    for words in ["--finish", &id] {
        assert!(refused.err.contains(words), "{words}: {}", refused.err);
    }
    assert!(!refused.out.contains("whsec_") && !refused.err.contains("whsec_"));
    assert_eq!(enabled(&app.endpoints().await), [true, true]);
    assert_eq!(app.count(actions).await, before, "nothing was done");

    // Not deployed, its deliveries are refused: it is disabled as before, and that is known.
    let begun = begin(&old).await;
    assert_eq!(begun.code, Some(0), "{}", begun.err);
    assert_eq!(secret(&begun.out), new);
    assert_eq!(enabled(&app.endpoints().await), [true, false]);
    let recorded: Option<String> = sqlx::query_scalar(
        "SELECT detail ->> 'disables' FROM polar_jobs.operator_actions WHERE action = 'endpoint rotate-secret' ORDER BY id DESC LIMIT 1",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(recorded, Some(id));
}
