//! Costs: a root and its spans, exact cents, each reported once.

use std::time::Duration;

use jobs::ReportCosts;
use jobs::contract::Outcome;
use jobs::mirror::costs::record_all;
use jobs::types::{CostReading, CostUsd};
use serde_json::{Value, json};
use simulator::{Faults, RequestMatch};
use uuid::Uuid;

use crate::test_app::{TestApp, context, run};

fn cost(organization_id: Uuid, cost_usd: Option<&str>) -> CostReading {
    CostReading {
        organization_id,
        source: "organization_review".into(),
        context: Some("submission".into()),
        vendor: Some("openai".into()),
        model: Some("gpt-4o-mini".into()),
        input_tokens: Some(100),
        output_tokens: Some(50),
        cost_usd: cost_usd.map(|text| CostUsd::parse(text).unwrap()),
        usage_id: Some(Uuid::new_v4().to_string()),
        recorded_at: None,
        external_id: None,
    }
}

/// Each one it makes is of the same run.
fn cost_of_a_run(organization: Uuid, cost_usd: &str) -> CostReading {
    CostReading {
        usage_id: Some("run".into()),
        ..cost(organization, Some(cost_usd))
    }
}

async fn record(app: &TestApp, costs: &[CostReading]) {
    let recorded = record_all(&mut app.pool.acquire().await.unwrap(), costs)
        .await
        .unwrap();
    assert_eq!(recorded.accepted, costs.len() as u64);
}

async fn states(app: &TestApp) -> Vec<(String, Option<String>)> {
    sqlx::query_as("SELECT state, reason FROM polar_jobs.costs ORDER BY id")
        .fetch_all(&app.pool)
        .await
        .unwrap()
}

fn sent(app: &TestApp) -> Vec<Value> {
    let requests = app.simulator.requests();
    requests
        .into_iter()
        .filter(|r| r.path == "/v1/events/ingest")
        .flat_map(|r| r.body["events"].as_array().cloned().unwrap())
        .collect()
}

#[tokio::test]
async fn a_cost_goes_out_as_exact_decimal_text_with_its_usage_id() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let reading = CostReading {
        usage_id: Some("run-7".into()),
        ..cost(organization, Some("0.0123"))
    };
    let half = CostReading {
        usage_id: Some("run-8".into()),
        ..cost(organization, Some("0.5"))
    };
    record(&app, &[reading, half]).await;
    app.report_costs().await.unwrap();
    let root = format!("organization_review-{organization}");
    let span = |id: &str, amount: &str| {
        json!({
        "name": "organization_review.submission", "external_customer_id": organization, "parent_id": root,
        "external_id": format!("organization_review.submission-{organization}-{id}"),
        "metadata": {
            "_llm": { "vendor": "openai", "model": "gpt-4o-mini", "input_tokens": 100, "output_tokens": 50, "total_tokens": 150 },
            "_cost": { "amount": amount, "currency": "usd" } } })
    };
    let expected = [
        json!({ "name": "organization_review", "external_customer_id": organization, "external_id": root }),
        span("run-7", "1.230000"),
        span("run-8", "50.000000"),
    ];
    assert_eq!(
        sent(&app),
        expected,
        "both in one request, one root before them"
    );
    assert_eq!(app.ingest_requests(), 1);
    assert!(
        app.simulator
            .events()
            .iter()
            .all(|event| event.parent_id.is_none() || event.parent_known)
    );
}

#[tokio::test]
async fn many_readings_travel_in_one_request_and_each_is_reported_once() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let readings: Vec<CostReading> = (0..400)
        .map(|_| cost(organization, Some("0.001")))
        .collect();
    record(&app, &readings).await;
    app.simulator.set_faults(Faults {
        drop_after: 1.0,
        ..Faults::default()
    });
    app.report_costs().await.unwrap_err();
    app.simulator.set_faults(Faults::default());
    app.report_costs().await.unwrap();
    app.report_costs().await.unwrap();
    assert_eq!(
        app.ingest_requests(),
        2,
        "one whose answer was lost, its copy, and nothing afterwards"
    );
    assert_eq!(app.simulator.events().len(), 401);
    assert!(
        states(&app)
            .await
            .iter()
            .all(|(state, _)| state == "reported")
    );
}

#[tokio::test]
async fn without_a_usage_id_a_resend_is_recognized_all_the_same() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    record(
        &app,
        &[CostReading {
            usage_id: None,
            ..cost(organization, Some("1"))
        }],
    )
    .await;
    app.simulator.set_faults(Faults {
        error_after: 1.0,
        ..Faults::default()
    });
    app.report_costs().await.unwrap_err();
    app.simulator.set_faults(Faults::default());
    app.report_costs().await.unwrap();
    assert_eq!(app.simulator.events().len(), 2);
}

#[tokio::test]
async fn reviews_of_the_self_organization_are_skipped_and_its_assistant_is_not() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let ours = app.self_organization;
    let assistant = |id| CostReading {
        source: "compass_assistant".into(),
        context: None,
        ..cost(id, Some("0.5"))
    };
    record(
        &app,
        &[
            cost(ours, Some("1")),
            assistant(ours),
            cost(organization, None),
            cost(organization, Some("0.000")),
        ],
    )
    .await;
    app.report_costs().await.unwrap();
    let names: Vec<Value> = sent(&app)
        .iter()
        .map(|event| event["name"].clone())
        .collect();
    assert_eq!(names, ["compass_assistant", "compass_assistant.chat"]);
    let states = states(&app).await;
    let states: Vec<&str> = states.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["skipped", "reported", "skipped", "skipped"]);
}

#[tokio::test]
async fn a_cost_waits_for_its_organization_and_goes_with_it() {
    let app = TestApp::start().await;
    let (later, gone) = (Uuid::new_v4(), app.organization().await);
    app.delete(gone).await;
    record(&app, &[cost(later, Some("1")), cost(gone, Some("1"))]).await;
    app.report_costs().await.unwrap();
    assert_eq!(app.ingest_requests(), 0);
    app.create(later).await;
    app.report_costs().await.unwrap();
    let states = states(&app).await;
    assert_eq!(states[0].0, "reported");
    assert_eq!(
        states[1],
        (
            "skipped".to_owned(),
            Some("recorded after the organization was deleted".to_owned())
        )
    );
}

#[tokio::test]
async fn a_refused_cost_is_taken_out_by_its_position_and_the_others_go_through() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    // The table's own checks refuse whatever Polar would; without one of them a name is too long.
    for check in ["costs_source_length", "costs_context_length"] {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "ALTER TABLE polar_jobs.costs DROP CONSTRAINT {check}"
        )))
        .execute(&app.pool)
        .await
        .unwrap();
    }
    let mut readings: Vec<CostReading> = (0..30).map(|_| cost(organization, Some("1"))).collect();
    readings[11].context = Some("x".repeat(200));
    app.simulator.provoked(1);
    record(&app, &readings).await;
    app.report_costs().await.unwrap();
    for (place, (state, reason)) in states(&app).await.into_iter().enumerate() {
        if place == 11 {
            assert_eq!(state, "refused");
            assert!(reason.unwrap().contains("at most 128 characters"));
        } else {
            assert_eq!(state, "reported", "{place}");
        }
    }
    assert_eq!(
        app.ingest_requests(),
        2,
        "Polar named the culprit, so nothing was halved"
    );
}

#[tokio::test]
async fn billing_off_keeps_costs_waiting() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    record(&app, &[cost(organization, Some("1"))]).await;
    let outcome = run(ReportCosts {}, &context(&app.pool, None, None))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Ignored(_)));
    app.report_costs().await.unwrap();
    assert_eq!(states(&app).await[0].0, "reported");
}

#[tokio::test]
async fn a_cost_above_polars_cap_arrives_whole() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let reading = CostReading {
        usage_id: Some("big".into()),
        ..cost(organization, Some("123456.78"))
    };
    record(&app, &[reading]).await;
    app.report_costs().await.unwrap();
    let spans: Vec<Value> = sent(&app)
        .into_iter()
        .filter(|event| event["parent_id"].is_string())
        .collect();
    let total: rust_decimal::Decimal = spans
        .iter()
        .map(|span| {
            span["metadata"]["_cost"]["amount"]
                .as_str()
                .unwrap()
                .parse::<rust_decimal::Decimal>()
                .unwrap()
        })
        .sum();
    assert_eq!(total.to_string(), "12345678.000000");
    assert_eq!(spans.len(), 124);
    assert!(spans.iter().any(|span| span["external_id"]
        == format!("organization_review.submission-{organization}/big-124")));
    assert_eq!(states(&app).await[0].0, "reported");
}

fn amounts(app: &TestApp) -> Vec<String> {
    let sent = sent(app);
    let amounts = sent
        .iter()
        .filter_map(|event| event["metadata"]["_cost"]["amount"].as_str());
    let mut amounts: Vec<String> = amounts.map(str::to_owned).collect();
    amounts.sort();
    amounts
}

#[tokio::test]
async fn two_organizations_may_give_their_runs_the_same_id() {
    let app = TestApp::start().await;
    let (one, other) = (app.organization().await, app.organization().await);
    record(&app, &[cost_of_a_run(one, "1"), cost_of_a_run(other, "2")]).await;
    app.report_costs().await.unwrap();
    assert_eq!(app.simulator.events().len(), 4, "two roots and two spans");
    assert_eq!(amounts(&app), ["100.000000", "200.000000"]);
}

#[tokio::test]
async fn the_parts_of_a_run_are_not_taken_for_another_run() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let run = |id: &str, cost_usd| CostReading {
        usage_id: Some(id.into()),
        ..cost(organization, Some(cost_usd))
    };
    record(
        &app,
        &[run("run", "1500"), run("run-1", "1"), run("run-2", "2")],
    )
    .await;
    app.report_costs().await.unwrap();
    assert_eq!(
        app.simulator.events().len(),
        5,
        "a root, two parts and two runs"
    );
}

#[tokio::test]
async fn a_run_that_was_recorded_twice_is_reported_once_and_says_so() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let run = cost_of_a_run(organization, "1");
    record(&app, &[run.clone(), run.clone()]).await;
    app.report_costs().await.unwrap();
    record(&app, &[run]).await;
    app.report_costs().await.unwrap();
    let states = states(&app).await;
    assert_eq!(states[0].0, "reported");
    for (state, reason) in &states[1..] {
        assert_eq!(state, "skipped");
        assert!(
            reason
                .as_ref()
                .unwrap()
                .starts_with("the same run as cost "),
            "{reason:?}"
        );
    }
    assert_eq!(amounts(&app), ["100.000000"]);
}

/// A second recording of a run is set aside where the first is reported, and only there.
#[tokio::test]
async fn a_run_that_is_recorded_between_two_lives_and_in_the_second_is_reported() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let run = cost_of_a_run(organization, "1");
    app.delete(organization).await;
    record(&app, std::slice::from_ref(&run)).await;
    let create =
        "UPDATE polar_jobs.organizations SET deleted_at = NULL, erasure_event = NULL WHERE id = $1";
    let create = sqlx::query(create).bind(organization);
    create.execute(&app.pool).await.unwrap();
    record(&app, &[run]).await;
    app.report_costs().await.unwrap();
    let states = states(&app).await;
    let states: Vec<&str> = states.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["skipped", "reported"]);
}

#[tokio::test]
async fn a_cost_whose_id_polar_knows_from_elsewhere_is_refused_with_the_reason() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let run = cost_of_a_run(organization, "1");
    record(&app, std::slice::from_ref(&run)).await;
    app.report_costs().await.unwrap();
    // Somebody else reported the run: here a database that this one knows nothing of.
    sqlx::query("DELETE FROM polar_jobs.costs")
        .execute(&app.pool)
        .await
        .unwrap();
    record(&app, std::slice::from_ref(&run)).await;
    app.report_costs().await.unwrap();
    let (state, reason) = states(&app).await.remove(0);
    assert_eq!(state, "refused");
    assert!(
        reason
            .unwrap()
            .contains("Polar knew 1 of 1 events before they were sent for the first time")
    );

    // On command it goes again, and Polar's answer is what it should be now.
    let retried = jobs::mirror::costs::retry_refused(&app.pool, None)
        .await
        .unwrap();
    assert_eq!(retried, 1);
    app.report_costs().await.unwrap();
    assert_eq!(states(&app).await[0].0, "reported");
}

/// Reports what is recorded, and records `more` while Polar has the first request.
async fn meanwhile(app: &TestApp, more: &[CostReading]) {
    let held = app.simulator.hold(RequestMatch::path("/v1/events/ingest"));
    let recording = async {
        assert!(held.wait_for(1, Duration::from_secs(10)).await);
        record(app, more).await;
        held.release_all();
    };
    let (reported, ()) = tokio::join!(app.report_costs(), recording);
    reported.unwrap();
}

#[tokio::test]
async fn what_is_never_reported_is_not_when_it_comes_during_a_report() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let run = cost_of_a_run(organization, "1");
    record(&app, std::slice::from_ref(&run)).await;
    let review = cost(app.self_organization, Some("5"));
    meanwhile(&app, &[review, run, cost(organization, Some("2"))]).await;
    assert_eq!(amounts(&app), ["100.000000", "200.000000"]);
    app.report_costs().await.unwrap();
    assert_eq!(amounts(&app).len(), 2);
    let states = states(&app).await;
    let states: Vec<&str> = states.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["reported", "skipped", "skipped", "reported"]);
}

#[tokio::test]
async fn a_run_that_commits_after_its_copy_was_sent_is_the_copy() {
    for faults in [
        Faults::default(),
        Faults {
            drop_after: 1.0,
            ..Faults::default()
        },
    ] {
        let app = TestApp::start().await;
        let organization = app.organization().await;
        let run = cost_of_a_run(organization, "1");
        let mut late = app.pool.begin().await.unwrap();
        record_all(&mut late, std::slice::from_ref(&run))
            .await
            .unwrap();
        record(&app, &[run]).await;
        app.simulator.set_faults(faults);
        // With or without Polar's answer, Polar has it.
        let _ = app.report_costs().await;
        assert_eq!(app.simulator.events().len(), 2);
        app.simulator.set_faults(Faults::default());
        late.commit().await.unwrap();
        record(&app, &[cost(organization, Some("2"))]).await;
        app.report_costs().await.unwrap();
        let states = states(&app).await;
        assert_eq!(
            states[0],
            (
                "skipped".to_owned(),
                Some("the same run as cost 2".to_owned())
            )
        );
        assert_eq!(
            (states[1].0.as_str(), states[2].0.as_str()),
            ("reported", "reported")
        );
    }
}
