//! Each kind of bad call is what it says: what was committed, what the client sees.

use crate::common::{Api, start};
use serde_json::json;
use simulator::{Faults, Options};

async fn with(spec: &str) -> (simulator::Simulator, Api) {
    let faults: Faults = spec.parse().unwrap();
    let simulator = start(Options {
        faults,
        ..Options::default()
    })
    .await;
    let api = Api::of(&simulator);
    (simulator, api)
}

async fn create(api: &Api) -> Option<u16> {
    let body = json!({"type": "team", "name": "A", "external_id": "acme", "owner": {"email": "o@example.com"}});
    api.try_call("POST", "/v1/customers/", body)
        .await
        .ok()
        .map(|answer| answer.status)
}

#[tokio::test]
async fn each_fault_answers_and_commits_as_named() {
    let kinds = [
        ("429=1,retry-after=3", Some(429), false),
        ("500-before=1", Some(500), false),
        ("500-after=1", Some(500), true),
        ("drop-before=1", None, false),
        ("drop-after=1", None, true),
    ];
    for (spec, status, committed) in kinds {
        let (simulator, api) = with(spec).await;
        assert_eq!(create(&api).await, status, "{spec}");
        assert_eq!(simulator.customer("acme").is_some(), committed, "{spec}");
        assert_eq!(simulator.requests()[0].status, status, "{spec}");
    }
}

#[tokio::test]
async fn a_timeout_holds_the_call_and_commits_or_not() {
    let (mut committed, mut not) = (0, 0);
    for seed in 0..12 {
        let faults: Faults = "timeout=1,timeout-ms=40".parse().unwrap();
        let simulator = start(Options {
            faults,
            seed,
            ..Options::default()
        })
        .await;
        let api = Api::of(&simulator);
        let began = std::time::Instant::now();
        assert_eq!(create(&api).await, None);
        assert!(began.elapsed().as_millis() >= 40);
        let slot = if simulator.customer("acme").is_some() {
            &mut committed
        } else {
            &mut not
        };
        *slot += 1;
    }
    assert!(committed > 0 && not > 0, "{committed} committed, {not} not");
}

#[tokio::test]
async fn the_same_seed_has_the_same_bad_day() {
    let mut days = Vec::new();
    for _ in 0..2 {
        let (simulator, api) = with("calls=0.5,timeout-ms=1").await;
        let mut day = Vec::new();
        for _ in 0..40 {
            day.push(
                api.try_call("GET", "/v1/customers/", json!(null))
                    .await
                    .ok()
                    .map(|answer| answer.status),
            );
        }
        simulator.set_faults(Faults::default());
        assert_eq!(api.get("/v1/customers/").await.status, 200);
        days.push(day);
    }
    assert_eq!(days[0], days[1]);
    assert!(
        days[0].contains(&Some(200)) && days[0].contains(&Some(500)) && days[0].contains(&None)
    );
}
