//! Whatever Polar signs is kept, byte for byte, and never makes it disable the endpoint.

use serde_json::{Value, json};

use crate::support::{Answer, Delivery, TestIngress, read_answer};

type Stored = (Option<String>, Vec<u8>, Option<Value>, Option<String>);

#[tokio::test]
async fn whatever_is_inside_is_stored_as_it_came() {
    let ingress = TestIngress::start().await;
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
        (b"".to_vec(), None),
        (b"not JSON".to_vec(), None),
        (b"\xff\xfe\x00\x01".to_vec(), None),
        (b"null".to_vec(), None),
        (b"[1,2]".to_vec(), None),
        (br#"{"type": 7, "data": []}"#.to_vec(), None),
        (br#"{"type": null}"#.to_vec(), None),
        (b"{\"type\":\"caf\xe9.updated\"}".to_vec(), None),
        (br#"{"type":"nul.\u0000.type","data":{}}"#.to_vec(), None),
        (br#"{"type":"\ud800","data":{}}"#.to_vec(), None),
        (br#"{"type":"future.event","data":{"name":"\u0000"}}"#.to_vec(), Some("future.event")),
        (br#"{"type":"future.event","data":{"name":"\ud800"}}"#.to_vec(), Some("future.event")),
        (br#"{"type":"future.event","data":{"n":1e999999,"m":123456789012345678901234567890}}"#.to_vec(), Some("future.event")),
        (br#"{"type":"benefit_grant.created","data":{"customer":{"external_id":"\u0000"},"customer_id":"\u0000"}}"#.to_vec(), Some("benefit_grant.created")),
        (br#"{"type":"benefit_grant.created","data":"a text"}"#.to_vec(), Some("benefit_grant.created")),
        (br#"{"type":"benefit_grant.created"}"#.to_vec(), Some("benefit_grant.created")),
        (br#"{"type":"subscription.updated","data":{}}"#.to_vec(), Some("subscription.updated")),
        (br#"{"type":"benefit.updated","data":{"id":"no uuid"}}"#.to_vec(), Some("benefit.updated")),
        (br#"{"type":"customer.state_changed","data":null}"#.to_vec(), Some("customer.state_changed")),
        ("x".repeat(300_000).into_bytes(), None),
        (deep, None),
    ];
    for (body, event_type) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let delivery = Delivery::new(body.clone());
        let answer = ingress.deliver(&delivery).await;
        assert_eq!(answer.status, 202, "{shown}: {answer:?}");
        let (stored_type, bytes, _, _): Stored = sqlx::query_as(
            "SELECT type, body, data, outcome FROM polar_jobs.external_events WHERE external_id = $1",
        )
        .bind(&delivery.id)
        .fetch_one(&ingress.pool)
        .await
        .unwrap();
        assert_eq!(bytes, body, "{shown}");
        // A type with a lone surrogate or NUL is no text that the table can hold.
        if !shown.contains("\\ud800") || event_type.is_some() {
            assert_eq!(stored_type.as_deref(), event_type, "{shown}");
        }
    }
}

#[tokio::test]
async fn a_body_of_several_kibibytes_stays_in_its_row_compressed_where_postgres_can() {
    let ingress = TestIngress::start().await;
    let body = include_bytes!("../../src/bench/ingress/deliveries/subscription.updated.json");
    assert!(body.len() > 5000);
    let answer = ingress.deliver(&Delivery::new(body.to_vec())).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let (stored, size, compression, lz4): (Vec<u8>, i32, Option<String>, bool) = sqlx::query_as(
        "SELECT body, pg_column_size(body), pg_column_compression(body),
                (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression')
           FROM polar_jobs.external_events",
    )
    .fetch_one(&ingress.pool)
    .await
    .unwrap();
    assert_eq!(stored, body);
    let compressed = compression.as_deref() == Some("lz4") && size < 2500;
    assert_eq!(compressed, lz4, "{size} bytes, {compression:?}");
    let elsewhere: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(pg_relation_size(c.reltoastrelid)), 0)::bigint
           FROM pg_partition_tree('polar_jobs.stored_events') p JOIN pg_class c ON c.oid = p.relid
          WHERE c.reltoastrelid <> 0",
    )
    .fetch_one(&ingress.pool)
    .await
    .unwrap();
    assert_eq!(elsewhere, 0, "bytes beside the rows");
}

#[tokio::test]
async fn an_id_is_opaque_text() {
    let ingress = TestIngress::start().await;
    for id in [
        "a",
        "msg_2.3 with blanks",
        "'; DROP TABLE polar_jobs.jobs; --",
        "ünïcödé ☕",
        &"x".repeat(1024),
    ] {
        let delivery = Delivery::signed(
            crate::support::SECRET,
            id,
            chrono::Utc::now().timestamp(),
            "{}",
        );
        let answer = ingress.deliver(&delivery).await;
        assert_eq!(answer.status, 202, "{id}: {answer:?}");
    }
    let too_long = Delivery::signed(
        crate::support::SECRET,
        &"x".repeat(1025),
        chrono::Utc::now().timestamp(),
        "{}",
    );
    assert_eq!(ingress.deliver(&too_long).await.status, 413);
    assert_eq!(ingress.events().await, 5);
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_413() {
    let ingress = TestIngress::start().await;
    let fits = vec![b' '; 1 << 20];
    assert_eq!(
        ingress.deliver(&Delivery::new(fits.clone())).await.status,
        202
    );
    let mut too_large = fits;
    too_large.push(b' ');
    let answer = ingress.deliver(&Delivery::new(too_large)).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (413, r#"{"error":"the body is larger than 1048576 bytes"}"#)
    );
    assert_eq!(
        ingress
            .deliver(&Delivery::new(vec![b'x'; 9 << 20]))
            .await
            .status,
        413
    );
    assert_eq!(ingress.events().await, 1);
}

#[tokio::test]
async fn a_body_in_chunks_is_one_body_and_its_limit_holds() {
    use tokio::io::AsyncWriteExt;
    let ingress = TestIngress::start().await;
    for (chunks, status) in [(3_usize, 202), (200, 413)] {
        let chunk = vec![b'x'; 8192];
        let delivery = Delivery::new(chunk.repeat(chunks));
        let mut stream = tokio::net::TcpStream::connect(ingress.address)
            .await
            .unwrap();
        let head = delivery.head("connection: close\r\ntransfer-encoding: chunked");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..chunks {
            stream.write_all(b"2000\r\n").await.unwrap();
            stream.write_all(&chunk).await.unwrap();
            stream.write_all(b"\r\n").await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        let Answer {
            status: answered, ..
        } = read_answer(&mut stream).await.unwrap();
        assert_eq!(answered, status);
    }
    let kept: i64 = sqlx::query_scalar("SELECT sum(length(body)) FROM polar_jobs.external_events")
        .fetch_one(&ingress.pool)
        .await
        .unwrap();
    assert_eq!(kept, 3 * 8192);
}

#[tokio::test]
async fn the_envelope_can_be_read_from_the_table() {
    let ingress = TestIngress::start().await;
    let body = json!({"type": "future.event", "timestamp": "2026-08-14T09:12:09Z", "data": {"name": "Blå Lykta ☕"}});
    ingress.deliver(&Delivery::new(body.to_string())).await;
    let data: Value = sqlx::query_scalar("SELECT data FROM polar_jobs.external_events")
        .fetch_one(&ingress.pool)
        .await
        .unwrap();
    assert_eq!(data, body);
}
