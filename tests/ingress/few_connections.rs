//! The ingress with as few connections as it may be given: what waits, or takes long, keeps them from nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use private_postgres::testing::{TestDatabase, database};
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};
use tokio::process::Child;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::crash::start_with;
use crate::support::{Answer, Delivery, count, try_send, until};

/// What a setting can hold.
const TOKEN: &str = "a-token-of-the-application-without-blanks";
/// The fewest that `DATABASE_CONNECTIONS` may say.
const CONNECTIONS: i64 = 4;
/// Those that send all the time what waits or takes long.
const SENDERS: usize = 20;
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'polar-jobs%'";
const SLOW: &str = "
     CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
     CREATE TRIGGER slow BEFORE INSERT ON polar_jobs.stored_events FOR EACH ROW
        WHEN (NEW.external_id LIKE 'slow%') EXECUTE FUNCTION slow_down()";

async fn start(url: &str) -> (Child, SocketAddr) {
    let connections = CONNECTIONS.to_string();
    let settings = [
        ("APP_TOKEN", TOKEN),
        ("DATABASE_CONNECTIONS", connections.as_str()),
        ("RUST_LOG", "error"),
    ];
    start_with(url, &settings).await
}

fn deleted(organization: Uuid) -> Value {
    json!({"type": "organization.deleted", "data": {"id": organization}})
}

/// A change that takes the database longer than anybody waits.
fn slow() -> Value {
    let id = Uuid::new_v4();
    json!({"id": format!("slow-{id}"), "type": "organization.deleted", "data": {"id": id}})
}

async fn post(address: SocketAddr, body: &Value) -> Answer {
    let bearer = [("authorization", format!("Bearer {TOKEN}").into_bytes())];
    let body = body.to_string();
    let answer = try_send(address, "POST", "/changes", &bearer, body.as_bytes());
    answer.await.unwrap()
}

/// A transaction of the application that changes an organization, and stays open.
async fn change_of(organization: Uuid, database: &TestDatabase) -> Transaction<'static, Postgres> {
    let mut open = database.pool.begin().await.unwrap();
    sqlx::query("SELECT polar_jobs.record_change('organization.updated', jsonb_build_object('id', $1::uuid))")
        .bind(organization)
        .execute(&mut *open)
        .await
        .unwrap();
    open
}

/// Posts again and again what cannot be stored now, from many clients, and asks meanwhile for what can be done.
async fn others_are_served_beside(
    database: &TestDatabase,
    address: SocketAddr,
    refused: impl Fn() -> Value + Clone + Send + 'static,
) {
    let over = Arc::new(AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (refused, over) = (refused.clone(), Arc::clone(&over));
        senders.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let answer = post(address, &refused()).await;
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.head.contains("retry-after: "), "{answer:?}");
            }
        });
    }
    until("all of them wait for their answers", || async {
        let page = try_send(address, "GET", "/metrics", &[], b"")
            .await
            .unwrap();
        let open = page
            .body
            .lines()
            .find_map(|line| line.strip_prefix("polar_jobs_http_connections "));
        open.is_some_and(|open| open.parse::<f64>().unwrap() > SENDERS as f64)
    })
    .await;
    for round in 0..3 {
        let ready = try_send(address, "GET", "/ready", &[], b"").await.unwrap();
        assert_eq!(ready.status, 200, "round {round}: {ready:?}");
        let taken = post(address, &deleted(Uuid::new_v4())).await;
        assert_eq!(taken.status, 202, "round {round}: {taken:?}");
        let delivered = Delivery::grant().try_send(address).await.unwrap();
        assert_eq!(delivered.status, 202, "round {round}: {delivered:?}");
        let sessions = count(&database.pool, SESSIONS).await;
        assert!(sessions <= CONNECTIONS, "{sessions} sessions");
    }
    over.store(true, Ordering::Relaxed);
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_an_organization_that_is_held_open_keep_nobody_else_waiting() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (_child, address) = start(&database.url).await;
    let held = Uuid::new_v4();
    let open = change_of(held, &database).await;
    others_are_served_beside(&database, address, move || deleted(held)).await;
    let refused = post(address, &deleted(held)).await;
    assert!(refused.body.contains(&held.to_string()), "{refused:?}");
    open.commit().await.unwrap();
    let taken = post(address, &deleted(held)).await;
    assert_eq!(taken.status, 202, "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_gets_through_when_the_transaction_ends_that_it_waits_for() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (_child, address) = start(&database.url).await;
    let held = Uuid::new_v4();
    let open = change_of(held, &database).await;
    let waiting = tokio::spawn(async move { post(address, &deleted(held)).await });
    until("the change has met the transaction", || async {
        let met = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'polar-jobs%'
               AND (query LIKE '%reserve_changes%' OR query = 'ROLLBACK')";
        count(&database.pool, met).await > 0
    })
    .await;
    open.commit().await.unwrap();
    let taken = waiting.await.unwrap();
    assert_eq!(taken.status, 202, "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_take_long_leave_a_connection_to_others() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (_child, address) = start(&database.url).await;
    sqlx::raw_sql(SLOW).execute(&database.pool).await.unwrap();
    others_are_served_beside(&database, address, || {
        let changes: Vec<_> = (0..150).map(|_| slow()).collect();
        json!({ "changes": changes })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_come_too_late_open_no_further_connection() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (_child, address) = start(&database.url).await;
    sqlx::raw_sql(SLOW).execute(&database.pool).await.unwrap();
    let sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
    let before = count(&database.pool, sessions).await;
    let changes: Vec<_> = (0..40).map(|_| slow()).collect();
    let answers =
        futures::future::join_all(changes.iter().map(|change| post(address, change))).await;
    for answer in answers {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(
            answer.body.contains("does not answer in time"),
            "{answer:?}"
        );
    }
    let ours: i64 = database.pool.size().into();
    let opened = count(&database.pool, sessions).await - before;
    assert!(opened <= CONNECTIONS + ours, "{opened} sessions");
}
