//! What becomes of deliveries: which are stored, which are refused, and which start jobs.

use chrono::Utc;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, Delivery, SECRET, TestIngress, grant_body};

/// Type, outcome and whether it was handled, of the only event.
async fn only_event(ingress: &TestIngress) -> (Option<String>, Option<String>, bool) {
    sqlx::query_as("SELECT type, outcome, handled_at IS NOT NULL FROM polar_jobs.external_events")
        .fetch_one(&ingress.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_bogus_signature_is_401_and_stores_nothing() {
    let ingress = TestIngress::start().await;
    let mut delivery = Delivery::grant();
    delivery.signature = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
    let answer = ingress.deliver(&delivery).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (401, r#"{"error":"no signature matches"}"#)
    );
    assert_eq!(ingress.events().await, 0);
}

#[tokio::test]
async fn without_a_secret_the_answer_is_503_with_retry_after_and_nothing_is_stored() {
    for secrets in [&[][..], &[""]] {
        let ingress = TestIngress::with(secrets, None).await;
        let Answer { status, head, body } = ingress.deliver(&Delivery::grant()).await;
        assert_eq!(status, 503, "{body}");
        assert!(
            head.contains("retry-after: 5") && body.contains("POLAR_WEBHOOK_SECRET"),
            "{head}\n{body}"
        );
        assert_eq!(ingress.events().await, 0);
    }
}

#[tokio::test]
async fn types_that_start_no_job_are_202_and_stored_as_ignored() {
    for event_type in [
        "product.updated",
        "checkout.created",
        "future.event",
        "order.refunded",
        "",
    ] {
        let ingress = TestIngress::start().await;
        let body = json!({"type": event_type, "data": {}}).to_string();
        assert_eq!(ingress.deliver(&Delivery::new(body)).await.status, 202);
        assert_eq!(
            only_event(&ingress).await,
            (
                Some(event_type.to_owned()),
                Some("ignored".to_owned()),
                true
            )
        );
        let note: String = sqlx::query_scalar("SELECT note FROM polar_jobs.external_events")
            .fetch_one(&ingress.pool)
            .await
            .unwrap();
        assert_eq!(note, "nothing follows from an event of this type");
        assert_eq!(ingress.jobs().await, 0);
    }
}

#[tokio::test]
async fn each_grant_type_is_stored_with_the_bytes_as_sent_and_one_job_without_delay() {
    for event_type in [
        "benefit_grant.created",
        "benefit_grant.cycled",
        "benefit_grant.updated",
        "benefit_grant.revoked",
    ] {
        let ingress = TestIngress::start().await;
        let body = grant_body(event_type, Uuid::new_v4(), Uuid::new_v4())
            .replace("{}", "{ \"ü\" :  \"\\u0041\" }");
        let delivery = Delivery::new(body.clone());
        let answer = ingress.deliver(&delivery).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (202, r#"{"status":"stored"}"#)
        );

        let (source, external_id, bytes, data): (String, String, Vec<u8>, Value) = sqlx::query_as(
            "SELECT source, external_id, body, data FROM polar_jobs.external_events",
        )
        .fetch_one(&ingress.pool)
        .await
        .unwrap();
        assert_eq!((source.as_str(), external_id), ("polar", delivery.id));
        assert_eq!(bytes, body.as_bytes());
        assert_eq!(data, serde_json::from_str::<Value>(&body).unwrap());
        assert_eq!(
            only_event(&ingress).await,
            (Some(event_type.to_owned()), None, false)
        );

        let jobs: Vec<(String, bool, bool)> = sqlx::query_as(
            "SELECT kind, run_at <= now(), events = (SELECT array_agg(id) FROM polar_jobs.stored_events) FROM polar_jobs.jobs",
        )
        .fetch_all(&ingress.pool)
        .await
        .unwrap();
        assert_eq!(jobs, [("apply_benefits".to_owned(), true, true)]);
    }
}

#[tokio::test]
async fn subscription_deliveries_start_one_sync_each_and_a_mail_where_somebody_should_know() {
    let both = ["send_subscription_email", "sync_subscription"];
    for (event_type, expected) in [
        ("subscription.created", &both[1..]),
        ("subscription.canceled", &both),
        ("subscription.revoked", &both),
        ("subscription.past_due", &both),
    ] {
        let ingress = TestIngress::start().await;
        let customer = Uuid::new_v4();
        let body = json!({"type": event_type, "data": {"id": Uuid::new_v4(), "customer_id": customer,
                          "customer": {"id": customer, "external_id": Uuid::new_v4()}}});
        assert_eq!(
            ingress
                .deliver(&Delivery::new(body.to_string()))
                .await
                .status,
            202
        );
        let kinds: Vec<String> =
            sqlx::query_scalar("SELECT kind FROM polar_jobs.jobs ORDER BY kind")
                .fetch_all(&ingress.pool)
                .await
                .unwrap();
        assert_eq!(kinds, expected, "{event_type}");
    }
}

#[tokio::test]
async fn the_same_id_twice_is_one_row_and_one_job() {
    let ingress = TestIngress::start().await;
    let first = Delivery::grant();
    assert_eq!(ingress.deliver(&first).await.body, r#"{"status":"stored"}"#);
    // Polar signs each attempt anew.
    let again = Delivery::signed(
        SECRET,
        &first.id,
        Utc::now().timestamp() - 7,
        first.body.clone(),
    );
    let answer = ingress.deliver(&again).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (202, r#"{"status":"duplicate"}"#)
    );
    assert_eq!((ingress.events().await, ingress.jobs().await), (1, 1));
}

#[tokio::test]
async fn the_same_id_from_64_clients_at_once_is_one_row_and_one_job() {
    let ingress = TestIngress::start().await;
    let delivery = Delivery::grant();
    let answers = futures::future::join_all((0..64).map(|_| ingress.deliver(&delivery))).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer.body.contains("stored"))
            .count(),
        1
    );
    assert_eq!((ingress.events().await, ingress.jobs().await), (1, 1));
}

#[tokio::test]
async fn every_secret_is_accepted_while_it_is_being_changed() {
    let ingress = TestIngress::with(&["the secret before", SECRET], None).await;
    for secret in ["the secret before", SECRET] {
        let delivery = Delivery::signed(
            secret,
            &format!("of {secret}"),
            Utc::now().timestamp(),
            "{}",
        );
        assert_eq!(ingress.deliver(&delivery).await.status, 202);
    }
    let other = Delivery::signed("another secret", "id", Utc::now().timestamp(), "{}");
    assert_eq!(ingress.deliver(&other).await.status, 401);
}

#[tokio::test]
async fn a_burst_shares_commits_and_every_delivery_has_its_row_and_job() {
    let ingress = TestIngress::start().await;
    let answers = futures::future::join_all(
        (0..500).map(|_| async { ingress.deliver(&Delivery::grant()).await }),
    )
    .await;
    assert!(
        answers.iter().all(|answer| answer.status == 202),
        "{:?}",
        answers.iter().find(|a| a.status != 202)
    );
    assert_eq!((ingress.events().await, ingress.jobs().await), (500, 500));
    let transactions: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM polar_jobs.stored_events")
            .fetch_one(&ingress.pool)
            .await
            .unwrap();
    assert!(
        transactions < 400,
        "{transactions} transactions for 500 concurrent deliveries"
    );
}
