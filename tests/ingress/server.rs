//! The server itself: routes, operations, slow clients, and shutting it down.

use std::time::{Duration, Instant};

use private_postgres::testing::{database, empty_database};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::crash::start;
use crate::support::{Delivery, SECRET, TestIngress, WEBHOOK, read_answer, try_send, until};

#[tokio::test]
async fn unknown_routes_are_404_and_wrong_methods_405_and_nothing_redirects() {
    let ingress = TestIngress::start().await;
    for path in [
        "/",
        "/integrations/polar/webhook/",
        "/integrations/polar",
        "/changes/",
        "/Changes",
        "/health/",
        "//ready",
    ] {
        let answer = ingress.send("POST", path, &[], b"{}").await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(
            answer.head.contains("content-type: application/json")
                && answer.body.starts_with(r#"{"error":"#)
        );
    }
    for (method, path) in [
        ("GET", WEBHOOK),
        ("PUT", WEBHOOK),
        ("GET", "/changes"),
        ("POST", "/health"),
        ("DELETE", "/ready"),
    ] {
        let answer = ingress.send(method, path, &[], b"").await;
        assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
        assert!(answer.head.contains("allow: "), "{answer:?}");
    }
}

/// Closing on somebody who still writes resets the connection, and the answer is lost with it.
#[tokio::test]
async fn who_is_refused_unread_may_finish_writing_and_hears_why() {
    let (open, bare) = (
        TestIngress::start().await,
        TestIngress::with(&[], None).await,
    );
    let body = vec![b'x'; 8 << 20];
    for (ingress, method, path, status) in [
        (&open, "POST", "/changes", 401),
        (&bare, "POST", "/changes", 503),
        (&bare, "POST", WEBHOOK, 503),
        (&open, "POST", "/nowhere", 404),
        (&open, "PUT", "/changes", 405),
    ] {
        let answer = ingress.send(method, path, &[], &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
}

/// `curl` asks before it sends much; then there is nothing to wait for.
#[tokio::test]
async fn who_asks_before_sending_is_refused_at_once() {
    let ingress = TestIngress::start().await;
    let mut stream = TcpStream::connect(ingress.address).await.unwrap();
    let head = "POST /changes HTTP/1.1\r\nhost: test\r\ncontent-length: 5000000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
}

#[tokio::test]
async fn health_readiness_and_metrics_answer_without_a_token() {
    let ingress = TestIngress::with(&[], None).await;
    assert_eq!(ingress.get("/health").await.status, 200);
    assert_eq!(ingress.get("/ready").await.body, r#"{"status":"ready"}"#);
    let metrics = ingress.get("/metrics").await;
    assert_eq!(
        (metrics.status, metrics.body.as_str()),
        (200, "polar_jobs_up 1\n")
    );
    assert!(
        metrics
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_alerts_look_at_is_shown_before_it_happens_and_a_request_that_is_no_delivery_alarms_nobody()
 {
    let database = database(polar_jobs::migrate::migrator).await;
    let (mut child, address) = start(&database.url).await;
    let stray = try_send(address, "POST", WEBHOOK, &[], b"{}").await;
    assert_eq!(stray.unwrap().status, 401);
    let page = try_send(address, "GET", "/metrics", &[], b"").await;
    let page = page.unwrap().body;
    for (reason, count) in [
        ("headers", 1),
        ("signature", 0),
        ("clock", 0),
        ("no_secret", 0),
        ("no_memory", 0),
        ("busy", 0),
        ("database", 0),
    ] {
        let line = format!("polar_jobs_deliveries_refused_total{{reason=\"{reason}\"}} {count}\n");
        assert!(page.contains(&line), "{line} is not in {page}");
    }
    child.kill().await.unwrap();
}

#[tokio::test]
async fn without_a_schema_or_behind_it_the_ingress_is_not_ready_and_says_why() {
    let empty = empty_database(polar_jobs::migrate::migrator).await;
    let ingress = TestIngress::on(empty.url, empty.pool, &[SECRET], None).await;
    let answer = ingress.get("/ready").await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("no schema") && answer.body.contains("polar-jobs migrate"),
        "{answer:?}"
    );
    assert_eq!(ingress.get("/health").await.status, 200);
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 503);

    let ingress = TestIngress::start().await;
    sqlx::query("DELETE FROM polar_jobs._migrations WHERE version = (SELECT max(version) FROM polar_jobs._migrations)")
        .execute(&ingress.pool)
        .await
        .unwrap();
    let answer = ingress.get("/ready").await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("the schema is at version"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn one_connection_carries_many_deliveries() {
    let ingress = TestIngress::start().await;
    let mut stream = TcpStream::connect(ingress.address).await.unwrap();
    let mut buffer = vec![0; 4096];
    for _ in 0..20 {
        let delivery = Delivery::grant();
        let head = delivery.head(&format!("content-length: {}", delivery.body.len()));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&delivery.body).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(
            buffer[..read].starts_with(b"HTTP/1.1 202"),
            "{}",
            String::from_utf8_lossy(&buffer[..read])
        );
    }
    assert_eq!(ingress.events().await, 20);
}

#[tokio::test]
async fn slow_clients_hold_up_nobody() {
    let ingress = TestIngress::start().await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(ingress.address).await.unwrap();
        stream
            .write_all(format!("POST {WEBHOOK} HTTP/1.1\r\ncontent-length: 10\r\n").as_bytes())
            .await
            .unwrap();
        slow.push(stream);
    }
    let started = Instant::now();
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 202);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_client_that_breaks_off_stores_nothing() {
    let ingress = TestIngress::start().await;
    let delivery = Delivery::grant();
    let mut stream = TcpStream::connect(ingress.address).await.unwrap();
    let head = delivery.head(&format!("content-length: {}", delivery.body.len()));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&delivery.body[..10]).await.unwrap();
    drop(stream);
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 202);
    assert_eq!(ingress.events().await, 1);
}

#[tokio::test]
async fn closing_answers_what_is_in_flight_and_takes_no_more() {
    let ingress = TestIngress::start().await;
    let (address, pool) = (ingress.address, ingress.pool.clone());
    // Hold the table, so that a delivery is under way while the ingress shuts down.
    let mut held = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs.stored_events IN SHARE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let delivery = Delivery::grant();
    let in_flight = tokio::spawn(async move { delivery.try_send(address).await.unwrap() });
    until("the delivery waits for the lock", || async {
        crate::support::count(&pool, "SELECT count(*) FROM pg_locks WHERE NOT granted").await > 0
    })
    .await;
    let closing = tokio::spawn(ingress.close());
    until("the ingress is closed", || async {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    held.rollback().await.unwrap();
    assert_eq!(in_flight.await.unwrap().status, 202);
    closing.await.unwrap();
    assert_eq!(
        crate::support::count(&pool, "SELECT count(*) FROM polar_jobs.external_events").await,
        1
    );
}

#[tokio::test]
async fn garbage_instead_of_http_is_refused() {
    let ingress = TestIngress::start().await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(ingress.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        if let Ok(answer) = read_answer(&mut stream).await {
            assert!((400..600).contains(&answer.status), "{answer:?}");
        }
    }
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 202);
}
