//! Too many calls, too large a body and too long a list are each refused or served in their own way.

use crate::common;
use crate::common::{Answer, Api, client, start};
use crate::replay::recording;
use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::Options;

/// Status, body and the headers that tell a client what to do.
fn assert_answered_as_recorded(name: &str, answer: &Answer) {
    let recorded = &recording(name)["response"];
    assert_eq!(
        (json!(answer.status), &answer.body),
        (recorded["status"].clone(), &recorded["body"]),
        "{name}"
    );
    for header in [
        "retry-after",
        "polar-version",
        "content-type",
        "cache-control",
    ] {
        let ours = answer
            .headers
            .get(header)
            .map(|value| value.to_str().unwrap());
        assert_eq!(
            ours,
            recorded["headers"][header].as_str(),
            "{name}: {header}"
        );
    }
}

#[tokio::test]
async fn the_limit_counts_a_first_call_apart_and_is_shared_by_all_tokens() {
    let simulator = start(Options {
        rate_limit_per_minute: 100,
        ..Options::default()
    })
    .await;
    simulator.add_token("polar_oat_second", &["customers:read"]);
    let api = Api::of(&simulator);
    let mut served = 0;
    let refused = loop {
        let answer = api.get("/v1/customers/?limit=1").await;
        if answer.status == 429 {
            break answer;
        }
        served += 1;
    };
    assert_eq!(served, 101, "one pending call and a hundred");
    assert_answered_as_recorded("ratelimit-429-valid-token", &refused);
    let ingest = api.post("/v1/events/ingest", json!({"events": []})).await;
    assert_answered_as_recorded("ratelimit-429-post-ingest", &ingest);
    let second = Api {
        token: "polar_oat_second".into(),
        ..Api::of(&simulator)
    };
    let first = second.get("/v1/customers/?limit=1").await;
    assert_answered_as_recorded("ratelimit-429-other-token-same-org", &first);
    let again = second.get("/v1/customers/?limit=1").await;
    assert_answered_as_recorded("ratelimit-429-other-token-same-org-second", &again);
    simulator.advance(TimeDelta::seconds(60)).await;
    assert_eq!(api.get("/v1/customers/?limit=1").await.status, 200);
}

#[tokio::test]
async fn an_unknown_token_has_sixty_calls_a_minute() {
    let simulator = start(Options::default()).await;
    let api = Api {
        token: "polar_oat_wrong".into(),
        ..Api::of(&simulator)
    };
    for _ in 0..60 {
        assert_eq!(api.get("/v1/customers/?limit=1").await.status, 401);
    }
    assert_answered_as_recorded(
        "ratelimit-429-invalid-token",
        &api.get("/v1/customers/?limit=1").await,
    );
}

#[tokio::test]
async fn a_body_over_ten_mebibytes_is_refused_as_recorded() {
    let simulator = start(Options::default()).await;
    let body = format!(
        r#"{{"events":[{{"name":"x","metadata":{{"k":"{}"}}}}]}}"#,
        "v".repeat(10 << 20)
    );
    let url = format!("{}/v1/events/ingest", simulator.url());
    let call = client()
        .post(url)
        .bearer_auth(simulator.access_token())
        .header("content-type", "application/json");
    let answer = common::read(call.body(body).send().await.unwrap())
        .await
        .unwrap();
    assert_answered_as_recorded("events-body-over-10mib", &answer);
}

#[tokio::test]
async fn thousands_of_events_fit_into_one_call_and_repeat_as_duplicates() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    let batch = |prefix: &str, count: usize| -> Value {
        let event = |number: usize| {
            json!({"name": "u", "external_customer_id": "acme", "external_id": format!("{prefix}-{number:04}"),
                   "metadata": {"count": 2}})
        };
        (0..count).map(event).collect()
    };
    for (name, prefix, count) in [
        ("events-batch-1000", "a", 1000),
        ("events-batch-1000-repeat", "a", 1000),
        ("events-batch-5000", "b", 5000),
    ] {
        assert_eq!(
            api.ingest(batch(prefix, count)).await.body,
            recording(name)["response"]["body"],
            "{name}"
        );
    }
    assert_eq!(simulator.event_sum("u", "acme"), 12_000);
}
