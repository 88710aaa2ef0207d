//! `POST /changes`: what is stored of a request, and what is refused.

use std::cell::Cell;

use private_postgres::testing::sessions_waiting_for_a_lock;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, Delivery, SECRET, TOKEN, TestIngress, count, until};

/// An organization with its owner, as a change.
pub(crate) fn created(organization: Uuid) -> Value {
    json!({"type": "organization.created", "data": {
        "id": organization, "name": "Acme", "slug": "acme",
        "owner": {"id": Uuid::new_v4(), "email": "ada@example.com", "name": "Ada"}}})
}

fn with_id(mut change: Value, id: &str) -> Value {
    change["id"] = json!(id);
    change
}

fn usage(organization: Uuid, id: &str) -> Value {
    json!({"id": id, "type": "usage.recorded", "data": {"organization_id": organization, "quantity": 3}})
}

fn cost(organization: Uuid, id: &str) -> Value {
    json!({"id": id, "type": "cost.recorded", "data": {"organization_id": organization,
           "source": "organization_review", "vendor": "v", "model": "m", "input_tokens": 1, "output_tokens": 0,
           "cost_usd": "0.0123"}})
}

#[tokio::test]
async fn a_change_is_stored_with_its_data_and_one_job() {
    let ingress = TestIngress::start().await;
    let organization = Uuid::new_v4();
    let mut change = with_id(created(organization), "change 1");
    change["occurred_at"] = json!("2026-08-14T09:12:09+02:00");
    let answer = ingress.change(&change).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (202, r#"{"accepted":1,"duplicates":0}"#)
    );
    let (source, external_id, kind, data, body): (String, String, String, Value, Option<Vec<u8>>) =
        sqlx::query_as("SELECT source, external_id, type, data, body FROM polar_jobs.external_events WHERE handled_at IS NULL AND occurred_at = '2026-08-14T07:12:09Z'")
            .fetch_one(&ingress.pool).await.unwrap();
    assert_eq!(
        (source.as_str(), external_id.as_str(), kind.as_str()),
        ("app", "change 1", "organization.created")
    );
    assert_eq!((data, body), (change["data"].clone(), None));
    let (kind, payload, ordering_key, events, id): (String, Value, String, Vec<i64>, i64) = sqlx::query_as(
        "SELECT kind, payload, ordering_key, events, (SELECT id FROM polar_jobs.stored_events) FROM polar_jobs.jobs")
        .fetch_one(&ingress.pool).await.unwrap();
    assert_eq!(
        (kind.as_str(), payload, events),
        ("apply_change", json!({"event": id}), vec![id])
    );
    assert_eq!(ordering_key, format!("organization/{organization}"));
}

#[tokio::test]
async fn the_token_is_needed_and_its_absence_from_the_settings_is_503() {
    let ingress = TestIngress::start().await;
    let body = created(Uuid::new_v4()).to_string().into_bytes();
    for wrong in [
        "",
        "Bearer",
        "Bearer wrong",
        &format!("Basic {TOKEN}"),
        &format!("Bearer {TOKEN}x"),
    ] {
        let answer = ingress
            .send(
                "POST",
                "/changes",
                &[("authorization", wrong.as_bytes().to_vec())],
                &body,
            )
            .await;
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.head.contains("www-authenticate: bearer") && !answer.body.contains(TOKEN));
    }
    assert_eq!(
        ingress.send("POST", "/changes", &[], &body).await.status,
        401
    );
    assert_eq!(ingress.events().await, 0);
    for none in [None, Some("")] {
        let ingress = TestIngress::with(&[], none).await;
        let answer = ingress
            .send(
                "POST",
                "/changes",
                &[("authorization", b"Bearer ".to_vec())],
                &body,
            )
            .await;
        assert_eq!(answer.status, 503);
        assert!(
            answer.body.contains("APP_TOKEN") && answer.head.contains("retry-after"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn the_same_id_again_is_a_duplicate_also_within_one_request() {
    let ingress = TestIngress::start().await;
    let organization = Uuid::new_v4();
    let changes = json!({"changes": [
        with_id(created(organization), "a"), with_id(created(organization), "a"), created(organization),
        usage(organization, "a"), usage(organization, "a"), cost(organization, "a"), cost(organization, "a")]});
    assert_eq!(
        ingress.change(&changes).await.body,
        r#"{"accepted":4,"duplicates":3}"#
    );
    assert_eq!(
        ingress.change(&changes).await.body,
        r#"{"accepted":1,"duplicates":6}"#,
        "a change without id is always new"
    );
    assert_eq!((ingress.events().await, ingress.jobs().await), (3, 3));
    assert_eq!(
        count(&ingress.pool, "SELECT count(*) FROM polar_jobs.usage").await,
        1
    );
    assert_eq!(
        count(&ingress.pool, "SELECT count(*) FROM polar_jobs.costs").await,
        1
    );
}

#[tokio::test]
async fn readings_become_rows_and_no_job() {
    let ingress = TestIngress::start().await;
    let organization = Uuid::new_v4();
    let reading = json!({"type": "usage.recorded", "occurred_at": "2026-08-14T09:00:00Z", "data": {
        "organization_id": organization, "quantity": 7, "recorded_at": "2026-08-14T08:00:00Z"}});
    assert_eq!(
        ingress
            .change(&json!({"changes": [reading, cost(organization, "c")]}))
            .await
            .status,
        202
    );
    assert_eq!((ingress.events().await, ingress.jobs().await), (0, 0));
    let (quantity, at): (i64, chrono::DateTime<chrono::Utc>) =
        sqlx::query_as("SELECT quantity, recorded_at FROM polar_jobs.usage")
            .fetch_one(&ingress.pool)
            .await
            .unwrap();
    assert_eq!(
        (quantity, at.to_rfc3339().as_str()),
        (7, "2026-08-14T08:00:00+00:00")
    );
    let cost: (String, String) =
        sqlx::query_as("SELECT cost_usd::text, source FROM polar_jobs.costs")
            .fetch_one(&ingress.pool)
            .await
            .unwrap();
    assert_eq!(
        cost,
        ("0.0123".to_owned(), "organization_review".to_owned())
    );
}

#[tokio::test]
async fn every_fault_is_named_and_one_fault_stores_nothing() {
    let ingress = TestIngress::start().await;
    let good = created(Uuid::new_v4());
    let mut faulty = created(Uuid::new_v4());
    faulty["data"]["owner"]["email"] = json!("nobody");
    faulty["data"]["name"] = json!(7);
    let answer = ingress
        .change(&json!({"changes": [good, faulty, usage(Uuid::new_v4(), "u"), {"type": "x"}]}))
        .await;
    assert_eq!(answer.status, 422);
    let errors: Value = serde_json::from_str(&answer.body).unwrap();
    let places: Vec<(u64, &str)> = errors["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            (
                error["index"].as_u64().unwrap(),
                error["pointer"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(places[..2], [(1, "/data/name"), (1, "/data/owner/email")]);
    assert!(places.contains(&(3, "/type")), "{places:?}");
    assert!(
        errors["errors"]
            .as_array()
            .unwrap()
            .iter()
            .all(|error| error["message"].is_string())
    );
    assert_eq!(
        (
            ingress.events().await,
            count(&ingress.pool, "SELECT count(*) FROM polar_jobs.usage").await
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn bodies_that_are_no_changes_are_422() {
    let ingress = TestIngress::start().await;
    let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    for body in [&b""[..], b"not JSON", b"null", b"7", b"[]", b"{}", br#"{"changes": {}}"#, br#"{"changes": [7]}"#,
                 b"\xff\xfe", br#"{"type":"organization.deleted","data":{"id":"\ud800"}}"#, &deep,
                 br#"{"type":"usage.recorded","data":{"organization_id":"5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10","quantity":1e999}}"#,
                 br#"{"type":"usage.recorded","data":{"organization_id":"5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10","quantity":9007199254740992}}"#,
                 br#"{"type":"cost.recorded","data":{"organization_id":"5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10","source":"x","cost_usd":"10000000.1"}}"#,
                 br#"{"type":"organization.deleted","data":{"id":"5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10","note":"\u0000"}}"#] {
        let answer = ingress.changes(body).await;
        assert_eq!(answer.status, 422, "{}: {answer:?}", String::from_utf8_lossy(&body[..body.len().min(60)]));
        let errors: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(errors["errors"][0]["index"] == 0 && errors["errors"][0]["pointer"].is_string(), "{answer:?}");
    }
    assert_eq!(
        ingress.change(&json!({"changes": []})).await.body,
        r#"{"accepted":0,"duplicates":0}"#
    );
    assert_eq!((ingress.events().await, ingress.jobs().await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_changes_of_as_many_organizations_are_one_request_and_one_more_is_413() {
    let ingress = TestIngress::start().await;
    let mut changes: Vec<Value> = (0..10_000)
        .map(|i| with_id(created(Uuid::new_v4()), &format!("c{i}")))
        .collect();
    let answer = ingress.change(&json!({ "changes": changes })).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (202, r#"{"accepted":10000,"duplicates":0}"#)
    );
    assert_eq!(
        (ingress.events().await, ingress.jobs().await),
        (10_000, 10_000)
    );
    assert_eq!(
        ingress.change(&json!({ "changes": changes })).await.body,
        r#"{"accepted":0,"duplicates":10000}"#
    );
    assert_eq!(
        (ingress.events().await, ingress.jobs().await),
        (10_000, 10_000)
    );
    changes.push(created(Uuid::new_v4()));
    assert_eq!(
        ingress.change(&json!({ "changes": changes })).await.status,
        413
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_readings_are_one_request() {
    let ingress = TestIngress::start().await;
    let organization = Uuid::new_v4();
    let changes: Vec<Value> = (0..10_000)
        .map(|i| usage(organization, &format!("u{i}")))
        .collect();
    let answer = ingress.change(&json!({ "changes": changes })).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (202, r#"{"accepted":10000,"duplicates":0}"#)
    );
    assert_eq!(
        count(&ingress.pool, "SELECT count(*) FROM polar_jobs.usage").await,
        10_000
    );
    assert_eq!(ingress.jobs().await, 0);
}

#[tokio::test]
async fn a_body_over_eight_mebibytes_is_413() {
    let ingress = TestIngress::start().await;
    let mut body = created(Uuid::new_v4()).to_string().into_bytes();
    body.resize(8 << 20, b' ');
    assert_eq!(ingress.changes(&body).await.status, 202);
    body.push(b' ');
    assert_eq!(ingress.changes(&body).await.status, 413);
    assert_eq!(ingress.events().await, 1);
}

/// Sends a change as a client does: again where the machine is too busy to store it in time, or those that send the
/// same are too slow.
async fn post_until_stored(ingress: &TestIngress, change: &Value) -> Answer {
    for _ in 0..20 {
        let answer = ingress.change(change).await;
        if answer.status != 503 {
            return answer;
        }
    }
    panic!("a change was not stored within twenty tries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_from_64_clients_at_once_is_accepted_once() {
    let ingress = TestIngress::start().await;
    let change = with_id(created(Uuid::new_v4()), "once");
    let clients = (0..64).map(|_| post_until_stored(&ingress, &change));
    let answers = futures::future::join_all(clients).await;
    let says = |text| {
        let said = answers.iter().filter(|answer| answer.body.contains(text));
        said.count()
    };
    assert_eq!(
        (says(r#""accepted":1"#), says(r#""duplicates":1"#)),
        (1, 63),
        "{:?}",
        answers.iter().find(|answer| answer.status != 202)
    );
    assert_eq!((ingress.events().await, ingress.jobs().await), (1, 1));
}

#[tokio::test]
async fn an_array_and_fields_beside_changes_are_answered_with_what_is_taken() {
    let ingress = TestIngress::start().await;
    let change =
        r#"{"type":"organization.deleted","data":{"id":"5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10"}}"#;
    for (body, words) in [
        (
            format!("[{change}]"),
            r#"must be one change, or {\"changes\": [..]} around several"#,
        ),
        (
            format!(r#"{{"changes":[{change}],"mode":"quick"}}"#),
            r#"must have no field beside \"changes\""#,
        ),
    ] {
        let answer = ingress.changes(body.as_bytes()).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(answer.body.contains(words), "{}", answer.body);
    }
    assert_eq!(ingress.events().await, 0);
}

#[tokio::test]
async fn a_database_without_the_schema_or_without_a_server_is_said() {
    let empty = private_postgres::testing::empty_database(polar_jobs::migrate::migrator).await;
    let nowhere = "postgresql://postgres@127.0.0.1:1/app";
    let lazy = sqlx::postgres::PgPoolOptions::new()
        .connect_lazy(nowhere)
        .unwrap();
    for (url, pool, words) in [
        (
            empty.url.clone(),
            empty.pool.clone(),
            "run `polar-jobs migrate`",
        ),
        (nowhere.to_owned(), lazy, "the database cannot be reached"),
    ] {
        let ingress = TestIngress::on(url, pool, &[SECRET], Some(TOKEN)).await;
        let change = json!({"type": "organization.deleted", "data": {"id": "5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10"}});
        let changed = ingress.change(&change).await;
        let delivered = ingress.deliver(&Delivery::grant()).await;
        let ready = ingress.get("/ready").await;
        for answer in [changed, delivered, ready] {
            assert_eq!(answer.status, 503);
            assert!(answer.body.contains(words), "{answer:?}");
        }
    }
}

/// A change is taken for one that came too late by its id: then it would not be applied, and nobody would know.
#[tokio::test]
async fn a_change_that_waits_has_a_later_id_than_one_that_is_stored_meanwhile() {
    let ingress = TestIngress::start().await;
    let (held, subject) = (Uuid::nil(), Uuid::max());
    let update =
        |id: Uuid| json!({"type": "organization.updated", "data": {"id": id, "name": "x"}});
    let mut batch = vec![update(held); 100];
    batch.push(json!({"type": "organization.deleted", "data": {"id": subject}}));
    let batch = json!({"changes": batch});
    // Busy as the machine is, one of them may have waited for too long.
    until("both are stored", async || {
        let mut open = ingress.pool.begin().await.unwrap();
        let hold = "SELECT polar_jobs.record_change('organization.updated', jsonb_build_object('id', $1::text))";
        let hold = sqlx::query(hold).bind(held.to_string());
        hold.execute(&mut *open).await.unwrap();
        let answered = Cell::new(false);
        let batch = async {
            let answer = ingress.change(&batch).await;
            answered.set(true);
            answer.status
        };
        let meanwhile = async {
            until("the batch waits", async || {
                answered.get() || sessions_waiting_for_a_lock(&ingress.pool).await == 1
            })
            .await;
            let stored = ingress.change(&update(subject)).await;
            open.commit().await.unwrap();
            stored.status
        };
        tokio::join!(batch, meanwhile) == (202, 202)
    })
    .await;
    let out_of_order = "SELECT count(*) FROM (
        SELECT events[1] < lag(events[1]) OVER (PARTITION BY ordering_key ORDER BY id) AS wrong FROM polar_jobs.jobs) j WHERE wrong";
    assert_eq!(count(&ingress.pool, out_of_order).await, 0);
}

#[tokio::test]
async fn a_change_behind_an_open_transaction_is_told_whose_that_is() {
    let ingress = TestIngress::start().await;
    let organization = "5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10";
    let mut open = ingress.pool.begin().await.unwrap();
    sqlx::query("SELECT polar_jobs.record_change('organization.updated', jsonb_build_object('id', $1::text))")
        .bind(organization)
        .execute(&mut *open)
        .await
        .unwrap();
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *open)
        .await
        .unwrap();
    let change = json!({"type": "organization.deleted", "data": {"id": organization}});
    let answer = ingress.change(&change).await;
    assert_eq!(answer.status, 503);
    for words in [
        format!("changes organization {organization}"),
        format!("backend {backend} of role postgres"),
    ] {
        assert!(answer.body.contains(&words), "{}", answer.body);
    }
    open.commit().await.unwrap();
    assert_eq!(ingress.change(&change).await.status, 202);
}
