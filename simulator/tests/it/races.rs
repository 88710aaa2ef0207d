//! At Polar parallel identical calls do not all succeed alike; held requests make each race happen.

use crate::replay;
use std::sync::Arc;

use crate::common::{Answer, Api, TIMEOUT, start};
use serde_json::{Value, json};
use simulator::{Options, RequestMatch, Simulator};

async fn begin() -> (Simulator, Arc<Api>) {
    // The endpoint is never reached; it is there so that deliveries are recorded.
    let url = Some("http://127.0.0.1:1/hook".to_owned());
    let simulator = start(Options {
        webhook_url: url,
        ..Options::default()
    })
    .await;
    let api = Arc::new(Api::of(&simulator));
    assert_eq!(api.create_customer("acme").await.status, 201);
    (simulator, api)
}

/// Sends all calls, waits until all have arrived, then lets them commit in order.
async fn together(
    simulator: &Simulator,
    api: &Arc<Api>,
    calls: Vec<(&'static str, &'static str, Value)>,
) -> Vec<Answer> {
    let held = simulator.hold(RequestMatch::path("/v1/"));
    let mut tasks = Vec::new();
    for (number, (method, path, body)) in calls.into_iter().enumerate() {
        let api = Arc::clone(api);
        tasks.push(tokio::spawn(
            async move { api.call(method, path, body).await },
        ));
        assert!(held.wait_for(number + 1, TIMEOUT).await);
    }
    let mut answers = Vec::new();
    for task in tasks {
        held.release(1);
        answers.push(task.await.unwrap());
    }
    answers
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// Every way our race ended is one in which the recorded race of that name ended.
fn assert_seen(race: &str, answers: &[Answer]) {
    let counts = replay::recording("race-counts")["results"][race].clone();
    let recorded: Vec<String> = counts.as_object().unwrap().keys().cloned().collect();
    for answer in answers {
        let start = format!("({},", answer.status);
        assert!(
            recorded.iter().any(|outcome| outcome.starts_with(&start)),
            "{race}: {start} not in {recorded:?}"
        );
    }
}

#[tokio::test]
async fn of_parallel_customer_creations_one_wins_and_the_others_are_told_so() {
    let (simulator, api) = begin().await;
    let body = json!({"type": "team", "name": "B", "external_id": "b", "owner": {"email": "o@example.com"}});
    let call = ("POST", "/v1/customers/", body);
    let answers = together(&simulator, &api, vec![call.clone(), call.clone(), call]).await;
    assert_eq!(statuses(&answers), [201, 422, 422]);
    assert_seen("customer_same_external_id", &answers);
    assert_eq!(
        answers[1].body["detail"][0]["loc"],
        json!(["body", "external_id"])
    );
}

#[tokio::test]
async fn a_loser_of_parallel_member_creations_gets_500_and_a_retry_succeeds() {
    let (simulator, api) = begin().await;
    let body = json!({"email": "mia@example.com", "external_id": "mia"});
    let call = ("POST", "/v1/customers/external/acme/members", body.clone());
    let answers = together(&simulator, &api, vec![call.clone(), call]).await;
    assert_eq!(statuses(&answers), [201, 500]);
    assert_seen("member_same_email_and_external_id", &answers);
    assert!(
        answers[1].headers.get("polar-version").is_none(),
        "unhandled errors carry no version"
    );
    let retry = api.post("/v1/customers/external/acme/members", body).await;
    assert_eq!(
        (retry.status, &retry.body["id"]),
        (201, &answers[0].body["id"])
    );
}

#[tokio::test]
async fn parallel_deletions_all_succeed_and_each_is_announced() {
    let (simulator, api) = begin().await;
    let body = json!({"email": "mia@example.com", "external_id": "mia"});
    api.post("/v1/customers/external/acme/members", body).await;
    let call = (
        "DELETE",
        "/v1/customers/external/acme/members/mia",
        Value::Null,
    );
    assert_eq!(
        statuses(&together(&simulator, &api, vec![call.clone(), call]).await),
        [204, 204]
    );
    let call = (
        "DELETE",
        "/v1/customers/external/acme?anonymize=true",
        Value::Null,
    );
    assert_eq!(
        statuses(&together(&simulator, &api, vec![call.clone(), call]).await),
        [204, 204]
    );
    let count = |kind: &str| {
        simulator
            .deliveries()
            .iter()
            .filter(|one| one.event_type == kind)
            .count()
    };
    // Mia twice, and the owner with the customer.
    assert_eq!((count("member.deleted"), count("customer.deleted")), (3, 2));
    assert_eq!(
        api.delete("/v1/customers/external/acme").await.status,
        404,
        "no race, no second success"
    );
}

fn usage(order: [&str; 2]) -> Value {
    let event = |id: &str| json!({"name": "u", "external_customer_id": "acme", "external_id": id, "metadata": {"count": 1}});
    json!({"events": order.map(event)})
}

#[tokio::test]
async fn overlapping_ingests_in_different_order_lock_each_other_out() {
    let (simulator, api) = begin().await;
    let calls = vec![
        ("POST", "/v1/events/ingest", usage(["a", "b"])),
        ("POST", "/v1/events/ingest", usage(["a", "b"])),
        ("POST", "/v1/events/ingest", usage(["b", "a"])),
    ];
    let answers = together(&simulator, &api, calls).await;
    assert_eq!(statuses(&answers), [200, 200, 500]);
    assert_seen("ingest_same_two_events", &answers[..2]);
    assert_seen("ingest_same_events_reverse_order", &answers);
    assert_eq!(answers[1].body, json!({"inserted": 0, "duplicates": 2}));
    assert_eq!(simulator.event_sum("u", "acme"), 2);
    let retry = api.post("/v1/events/ingest", usage(["b", "a"])).await;
    assert_eq!(retry.body, json!({"inserted": 0, "duplicates": 2}));
}

#[tokio::test]
async fn a_call_whose_client_gave_up_is_committed_all_the_same() {
    let (simulator, api) = begin().await;
    let held = simulator.hold(RequestMatch::path("/members").method("POST").after_commit());
    let call = tokio::spawn({
        let api = Arc::clone(&api);
        async move {
            api.post(
                "/v1/customers/external/acme/members",
                json!({"email": "m@example.com"}),
            )
            .await
        }
    });
    assert!(held.wait_for(1, TIMEOUT).await);
    call.abort();
    assert_eq!(simulator.members("acme").len(), 2);
    held.release_all();
}
