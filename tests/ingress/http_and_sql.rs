//! One table of changes, good and bad, through both interfaces: `POST /changes` and `record_change`.

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{TestIngress, count};

const ORGANIZATION: &str = "5D1CBD8C-6b2c-4a43-9d52-6d1f6f1a3c10";
const USER: &str = "0b7c0a4e-2f0f-4f5e-8a6f-2a8f3a1d9e01";

/// A data object with one field replaced, or taken away by null.
fn but(data: &Value, pointer: &str, value: Value) -> Value {
    let mut data = data.clone();
    match pointer.rsplit_once('/') {
        Some((parent, field)) => data.pointer_mut(parent).unwrap()[field] = value,
        None => return value,
    }
    data
}

fn created() -> Value {
    json!({"id": ORGANIZATION, "name": "Blå ☕", "slug": "acme", "status": "review",
           "owner": {"id": USER, "email": "ada@example.com", "name": "Ada"},
           "fees": {"basis_points": 300, "fixed": 10, "subscription_basis_points": 0}})
}

/// Good ones of every type.
fn good() -> Vec<(&'static str, Value)> {
    let bare = json!({"id": ORGANIZATION, "name": "A", "slug": "a", "owner": {"id": USER, "email": "a@b"}});
    vec![
        ("organization.created", created()),
        ("organization.created", bare),
        ("organization.updated", json!({"id": ORGANIZATION})),
        (
            "organization.updated",
            json!({"id": ORGANIZATION, "name": "n", "slug": "s", "status": null}),
        ),
        ("organization.deleted", json!({"id": ORGANIZATION})),
        (
            "member.added",
            json!({"organization_id": ORGANIZATION, "user": {"id": USER, "email": "a@b"}, "role": "finance"}),
        ),
        (
            "member.updated",
            json!({"organization_id": ORGANIZATION, "user_id": USER, "role": "owner"}),
        ),
        (
            "member.removed",
            json!({"organization_id": ORGANIZATION, "user_id": USER}),
        ),
        (
            "user.updated",
            json!({"id": USER.to_uppercase(), "email": "new@example.com"}),
        ),
        ("user.updated", json!({"id": USER})),
        ("user.updated", json!({"id": USER, "name": " \u{3000}"})),
        (
            "member.added",
            json!({"organization_id": ORGANIZATION, "role": "admin",
                   "user": {"id": USER, "email": "u\u{308}na@XN--EXMPLE-CUA.com", "name": ""}}),
        ),
        (
            "organization.updated",
            json!({"id": ORGANIZATION, "name": format!("\u{a0}{}\u{85} \t", "é".repeat(256))}),
        ),
        (
            "ownership.transferred",
            json!({"organization_id": ORGANIZATION, "user_id": USER}),
        ),
        (
            "usage.recorded",
            json!({"organization_id": ORGANIZATION, "quantity": 1}),
        ),
        (
            "usage.recorded",
            json!({"organization_id": ORGANIZATION, "quantity": 9_007_199_254_740_991_i64, "recorded_at": "2026-08-14t09:12:09.5+02:00"}),
        ),
        (
            "cost.recorded",
            json!({"organization_id": ORGANIZATION, "source": "compass_assistant"}),
        ),
        (
            "cost.recorded",
            json!({"organization_id": ORGANIZATION, "source": "s", "context": "c", "vendor": "v", "model": "m",
                                 "input_tokens": 0, "output_tokens": 9_223_372_036_854_775_807_i64, "cost_usd": "0.000000000001", "usage_id": "u"}),
        ),
        (
            "cost.recorded",
            json!({"organization_id": ORGANIZATION, "source": "s", "cost_usd": "10000000.000"}),
        ),
    ]
}

fn bad() -> Vec<(Value, Value)> {
    let mut cases: Vec<(Value, Value)> = Vec::new();
    let mut spoil = |kind: &str, data: &Value, pointer: &str, values: &[Value]| {
        cases.extend(
            values
                .iter()
                .map(|value| (json!(kind), but(data, pointer, value.clone()))),
        );
    };
    let long = |length: usize| json!("é".repeat(length));
    let no_uuid = [
        json!(null),
        json!("42"),
        json!(7),
        json!(USER.replace('-', "")),
        json!(format!("{{{USER}}}")),
        json!(format!("{USER} ")),
    ];
    let no_text = |longest: usize| {
        [
            json!(7),
            json!(""),
            json!(" \u{a0}\u{3000}\t"),
            json!({}),
            long(longest + 1),
        ]
    };
    let no_email = [
        json!(null),
        json!("nobody"),
        json!("@"),
        json!("a@"),
        json!("@b"),
        json!("a@b@c"),
        json!("a b@c"),
        json!("a@b\u{85}"),
        json!("a@b\u{3}"),
        json!(format!("{}@b", "é".repeat(127))),
        json!(7),
    ];
    let no_object = [json!([]), json!("x"), json!(7)];
    for pointer in [
        "/nmae",
        "/ID",
        "/a~b/c",
        "/Ö",
        "/owner/mail",
        "/fees/percent",
        "/fees/basis_point",
    ] {
        let mut unknown = created();
        let (parent, field) = match pointer {
            "/a~b/c" => ("", "a~b/c"),
            other => other.rsplit_once('/').unwrap(),
        };
        unknown.pointer_mut(parent).unwrap()[field] = json!({"any": "thing"});
        spoil(
            "organization.created",
            &unknown,
            "/slug",
            &[json!("s"), json!(7)],
        );
    }
    let mut many = json!({"id": USER});
    many["x".repeat(65)] = json!(1);
    for number in 0..50 {
        many[format!("emial{number}")] = json!(null);
    }
    spoil("user.updated", &many, "/name", &[json!("n")]);
    spoil("organization.created", &created(), "/id", &no_uuid);
    spoil("organization.created", &created(), "/name", &no_text(256));
    spoil("organization.created", &created(), "/slug", &no_text(500));
    spoil("organization.created", &created(), "/status", &no_text(200));
    spoil("organization.created", &created(), "/owner", &no_object);
    spoil(
        "organization.created",
        &created(),
        "/owner",
        &[json!(null), json!({})],
    );
    spoil("organization.created", &created(), "/owner/id", &no_uuid);
    spoil(
        "organization.created",
        &created(),
        "/owner/email",
        &no_email,
    );
    spoil(
        "organization.created",
        &created(),
        "/owner/name",
        &[json!(7), json!({}), long(257)],
    );
    spoil("organization.created", &created(), "/fees", &no_object);
    spoil(
        "organization.created",
        &created(),
        "/fees",
        &[json!({}), json!({"basis_points": 1})],
    );
    let no_share = [
        json!(null),
        json!(-1),
        json!(10_001),
        json!(1.5),
        json!("1"),
        json!(true),
        json!(18_446_744_073_709_551_615_u64),
    ];
    spoil(
        "organization.created",
        &created(),
        "/fees/basis_points",
        &no_share,
    );
    spoil(
        "organization.created",
        &created(),
        "/fees/fixed",
        &[json!(-1), json!(2_147_483_648_u64)],
    );
    spoil(
        "organization.created",
        &created(),
        "/fees/subscription_basis_points",
        &no_share,
    );
    let member = json!({"organization_id": ORGANIZATION, "user": {"id": USER, "email": "a@b"}, "role": "admin"});
    spoil(
        "member.added",
        &member,
        "/role",
        &[
            json!(null),
            json!("Owner"),
            json!("billing_manager"),
            json!(1),
        ],
    );
    spoil("member.added", &member, "/user", &no_object);
    spoil("member.added", &member, "/user/email", &no_email);
    for (kind, pointer) in [("member.added", "/user/name"), ("user.updated", "/name")] {
        let data = if kind == "user.updated" {
            json!({"id": USER})
        } else {
            member.clone()
        };
        spoil(kind, &data, pointer, &[json!(7), long(257)]);
    }
    spoil(
        "user.updated",
        &json!({"id": USER}),
        "/email",
        &no_email[1..],
    );
    let usage = json!({"organization_id": ORGANIZATION, "quantity": 1});
    spoil(
        "usage.recorded",
        &usage,
        "/quantity",
        &[
            json!(null),
            json!(0),
            json!(-3),
            json!(2.5),
            json!("3"),
            json!(9_007_199_254_740_992_i64),
        ],
    );
    let no_time = [
        "2026-08-14",
        "2026-08-14T09:12:09",
        "yesterday",
        "2026-13-14T09:12:09Z",
        "2026-02-30T09:12:09Z",
        "2026-08-14T24:00:00Z",
        "2026-08-14T09:12Z",
        "infinity",
        "",
    ];
    spoil(
        "usage.recorded",
        &usage,
        "/recorded_at",
        &no_time.map(|time| json!(time)),
    );
    let cost = json!({"organization_id": ORGANIZATION, "source": "s"});
    spoil("cost.recorded", &cost, "/source", &no_text(63));
    spoil("cost.recorded", &cost, "/context", &no_text(63));
    spoil("cost.recorded", &cost, "/usage_id", &no_text(512));
    spoil(
        "cost.recorded",
        &cost,
        "/input_tokens",
        &[
            json!(-1),
            json!(1.5),
            json!("1"),
            json!(9_223_372_036_854_775_808_u64),
        ],
    );
    let no_cost = [
        "-1",
        "+1",
        "1e3",
        "",
        ".5",
        "5.",
        "NaN",
        "１",
        "1.2.3",
        "10000000.000000001",
        "9999999.9999999999",
        "99999999999",
        &"1".repeat(65),
    ];
    spoil(
        "cost.recorded",
        &cost,
        "/cost_usd",
        &no_cost.map(|text| json!(text)),
    );
    spoil(
        "cost.recorded",
        &cost,
        "/cost_usd",
        &[json!(0.5), json!(true)],
    );
    for data in [json!(null), json!([]), json!("x"), json!({})] {
        cases.push((json!("organization.deleted"), data));
    }
    for kind in [
        json!(null),
        json!("organisation.created"),
        json!(""),
        json!("usage.recorded "),
    ] {
        cases.push((kind, json!({"id": ORGANIZATION})));
    }
    cases
}

/// What the SQL function says: the row's id, null, or its faults.
async fn record(
    pool: &PgPool,
    kind: &Value,
    data: &Value,
    id: Option<&str>,
) -> Result<Option<i64>, String> {
    sqlx::query_scalar("SELECT polar_jobs.record_change($1, $2, $3)")
        .bind(kind.as_str())
        .bind(data)
        .bind(id)
        .fetch_one(pool)
        .await
        .map_err(|error| error.as_database_error().unwrap().message().to_owned())
}

fn envelope(kind: &Value, data: &Value, id: Option<&str>) -> Value {
    json!({"type": kind, "data": data, "id": id})
}

#[tokio::test]
async fn http_and_sql_refuse_the_same_changes_with_the_same_words() {
    let ingress = TestIngress::start().await;
    let mut cases: Vec<(Value, Value, Option<String>)> = bad()
        .into_iter()
        .map(|(kind, data)| (kind, data, None))
        .collect();
    for id in ["", " ", &"é".repeat(513)] {
        cases.push((
            json!("organization.deleted"),
            json!({"id": ORGANIZATION}),
            Some(id.to_owned()),
        ));
        cases.push((json!("usage.recorded"), json!({}), Some(id.to_owned())));
    }
    assert!(cases.len() > 100);
    for (kind, data, id) in cases {
        let answer = ingress.change(&envelope(&kind, &data, id.as_deref())).await;
        assert_eq!(answer.status, 422, "{kind} {data}: {answer:?}");
        let errors: Value = serde_json::from_str(&answer.body).unwrap();
        let over_http: Vec<String> = errors["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| {
                format!(
                    "{} {}",
                    error["pointer"].as_str().unwrap(),
                    error["message"].as_str().unwrap()
                )
            })
            .collect();
        let over_sql = record(&ingress.pool, &kind, &data, id.as_deref())
            .await
            .expect_err(&format!("{kind} {data}"));
        assert_eq!(
            over_sql,
            format!("record_change: {}", over_http.join("; ")),
            "{kind} {data}"
        );
    }
    assert_eq!((ingress.events().await, ingress.jobs().await), (0, 0));
}

#[tokio::test]
async fn http_and_sql_store_the_same_rows() {
    let (http, sql) = (TestIngress::start().await, TestIngress::start().await);
    for (place, (kind, data)) in good().into_iter().enumerate() {
        let id = format!("change {place}");
        let answer = http.change(&envelope(&json!(kind), &data, Some(&id))).await;
        assert_eq!(
            answer.body, r#"{"accepted":1,"duplicates":0}"#,
            "{kind} {data}: {answer:?}"
        );
        let row = record(&sql.pool, &json!(kind), &data, Some(&id)).await;
        assert!(matches!(row, Ok(Some(_))), "{kind} {data}: {row:?}");
        assert_eq!(
            record(&sql.pool, &json!(kind), &data, Some(&id)).await,
            Ok(None),
            "{kind}: a duplicate"
        );
    }
    for rows in [
        "SELECT coalesce(jsonb_agg(jsonb_build_array(source, external_id, type, data, occurred_at, outcome) ORDER BY id), '[]') FROM polar_jobs.external_events",
        "SELECT coalesce(jsonb_agg(jsonb_build_array(queue, kind, state, priority, max_attempts, unique_key, ordering_key, blocked, run_at <= now(),
                payload = jsonb_build_object('event', events[1])) ORDER BY id), '[]') FROM polar_jobs.jobs",
        "SELECT coalesce(jsonb_agg(jsonb_build_array(organization_id, quantity, external_id, CASE WHEN recorded_at < '2026-09-01' THEN recorded_at END) ORDER BY id), '[]') FROM polar_jobs.usage",
        "SELECT coalesce(jsonb_agg(jsonb_build_array(organization_id, source, context, vendor, model, input_tokens, output_tokens, cost_usd, usage_id, external_id, reported_at) ORDER BY id), '[]') FROM polar_jobs.costs",
    ] {
        let [over_http, over_sql]: [Value; 2] = [
            sqlx::query_scalar(rows).fetch_one(&http.pool).await.unwrap(),
            sqlx::query_scalar(rows).fetch_one(&sql.pool).await.unwrap(),
        ];
        assert!(!over_http.as_array().unwrap().is_empty());
        assert_eq!(over_http, over_sql);
    }
}

#[tokio::test]
async fn a_change_lives_and_dies_with_the_callers_transaction() {
    let ingress = TestIngress::start().await;
    let mut transaction = ingress.pool.begin().await.unwrap();
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT polar_jobs.record_change('organization.created', $1, id => 'a')",
    )
    .bind(created())
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    assert!(row.is_some());
    assert_eq!((ingress.events().await, ingress.jobs().await), (0, 0));
    transaction.rollback().await.unwrap();
    assert_eq!((ingress.events().await, ingress.jobs().await), (0, 0));

    let mut transaction = ingress.pool.begin().await.unwrap();
    let row: Option<i64> = sqlx::query_scalar(
        "SELECT polar_jobs.record_change('organization.created', $1, id => 'a')",
    )
    .bind(created())
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        Some(count(&ingress.pool, "SELECT id FROM polar_jobs.external_events").await),
        row
    );
    assert_eq!(ingress.jobs().await, 1);
    // The other interface sees the same id as a duplicate.
    let again = ingress
        .change(&envelope(
            &json!("organization.created"),
            &created(),
            Some("a"),
        ))
        .await;
    assert_eq!(again.body, r#"{"accepted":0,"duplicates":1}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_changes_of_one_organization_get_ids_in_the_order_of_their_jobs() {
    let ingress = TestIngress::start().await;
    let data = json!({"id": Uuid::new_v4(), "name": "x"});
    futures::future::join_all((0..40).map(|_| async {
        assert!(
            record(&ingress.pool, &json!("organization.updated"), &data, None)
                .await
                .unwrap()
                .is_some()
        );
    }))
    .await;
    let out_of_order = "SELECT count(*) FROM (SELECT events[1] < lag(events[1]) OVER (ORDER BY id) AS wrong FROM polar_jobs.jobs) j WHERE wrong";
    assert_eq!(count(&ingress.pool, out_of_order).await, 0);
    assert_eq!(
        count(
            &ingress.pool,
            "SELECT count(*) FROM polar_jobs.live_jobs WHERE NOT blocked"
        )
        .await,
        1
    );
}
