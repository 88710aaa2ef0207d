//! Anything at all, as body and as headers: never a panic, never half of something in the table.

use std::sync::LazyLock;

use chrono::Utc;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Delivery, SECRET, TestIngress, WEBHOOK, count};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static INGRESS: LazyLock<TestIngress> = LazyLock::new(|| RUNTIME.block_on(TestIngress::start()));

/// The one ingress of these tests, started before anything runs on the runtime.
fn ingress() -> &'static TestIngress {
    &INGRESS
}

/// Bytes that may stand in a header, and some that may not be text.
fn header() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..200)
}

/// JSON of any shape, with the names that we look for.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        proptest::sample::select(vec![
            "organization.created",
            "usage.recorded",
            "cost.recorded",
            "member.added",
            "owner",
            "5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10",
            "a@b",
            "0.5",
            "benefit_grant.created",
            "subscription.updated"
        ])
        .prop_map(Value::from),
    ];
    let name = prop_oneof![
        any::<String>(),
        proptest::sample::select(vec![
            "type",
            "id",
            "data",
            "organization_id",
            "user",
            "owner",
            "email",
            "name",
            "slug",
            "role",
            "quantity",
            "source",
            "cost_usd",
            "changes",
            "customer",
            "external_id",
            "customer_id",
            "occurred_at"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 64, 12, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map(name.clone(), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_signed_body_of_any_bytes_is_kept(body in proptest::collection::vec(any::<u8>(), 0..2000)) {
        keeps(body)?;
    }

    #[test]
    fn a_signed_body_of_any_json_is_kept(body in json_value()) {
        keeps(body.to_string().into_bytes())?;
    }

    #[test]
    fn headers_of_any_bytes_are_refused(id in header(), timestamp in header(), signature in header(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let headers = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
        let answer = RUNTIME.block_on(ingress().send("POST", WEBHOOK, &headers, &body));
        prop_assert_eq!(answer.status, 401);
    }

    #[test]
    fn changes_of_any_json_are_taken_whole_or_refused_with_their_faults(changes in proptest::collection::vec(json_value(), 0..4), one in json_value()) {
        for body in [json!({ "changes": changes }), one] {
            RUNTIME.block_on(taken_or_refused(ingress(), &body))?;
        }
    }
}

/// Found by the first of the tests above: bytes that are neither text nor without zeros.
#[test]
fn a_signed_body_that_is_no_text_is_kept() {
    let bytes = [
        227, 132, 247, 9, 102, 191, 157, 161, 41, 15, 140, 242, 17, 234, 177, 180, 187, 162, 29,
        209, 88, 247, 65, 214, 139, 225, 239, 175, 91, 59, 140, 11, 1, 159, 127, 225, 44, 208, 79,
        169, 207, 162, 53, 191, 200, 92, 72, 42, 235, 23, 125, 121, 255, 204, 154, 0, 210, 27, 89,
        31, 40, 123, 95, 86, 248, 149, 227, 36, 239, 195, 133, 171, 59, 209, 218, 146, 34, 129, 25,
        1, 48, 59, 173, 2, 241, 130, 198, 95, 217, 166, 211, 3, 70, 70,
    ];
    keeps(bytes.to_vec()).unwrap();
}

fn keeps(body: Vec<u8>) -> Result<(), TestCaseError> {
    let delivery = Delivery::signed(
        SECRET,
        &uuid::Uuid::new_v4().to_string(),
        Utc::now().timestamp(),
        body.clone(),
    );
    let ingress = ingress();
    let (answer, kept) = RUNTIME.block_on(async {
        let answer = ingress.deliver(&delivery).await;
        let kept: Option<(Vec<u8>, bool)> = sqlx::query_as(
            "SELECT body, outcome IS NOT NULL OR EXISTS (SELECT 1 FROM polar_jobs.live_jobs j WHERE e.id = ANY (j.events))
               FROM polar_jobs.stored_events e WHERE external_id = $1",
        )
        .bind(&delivery.id)
        .fetch_optional(&ingress.pool)
        .await
        .unwrap();
        (answer, kept)
    });
    prop_assert_eq!(answer.status, 202, "{:?}", answer);
    prop_assert_eq!(
        kept,
        Some((body, true)),
        "the bytes, and a job or an outcome"
    );
    Ok(())
}

async fn taken_or_refused(ingress: &TestIngress, body: &Value) -> Result<(), TestCaseError> {
    let rows = "SELECT (SELECT count(*) FROM polar_jobs.stored_events WHERE source = 'app') + (SELECT count(*) FROM polar_jobs.usage) + (SELECT count(*) FROM polar_jobs.costs)";
    let before = count(&ingress.pool, rows).await;
    let answer = ingress.change(body).await;
    let after = count(&ingress.pool, rows).await;
    let said: Value = serde_json::from_str(&answer.body).unwrap();
    match answer.status {
        202 => prop_assert_eq!(said["accepted"].as_i64(), Some(after - before), "{}", body),
        422 => {
            prop_assert_eq!(after, before);
            prop_assert!(
                said["errors"]
                    .as_array()
                    .is_some_and(|errors| !errors.is_empty()),
                "{}",
                body
            );
        }
        _ => prop_assert!(false, "{:?} for {}", answer, body),
    }
    Ok(())
}
