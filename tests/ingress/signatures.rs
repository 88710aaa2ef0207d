//! Every way a signature can be wrong, and the ways it may look odd and still be right
//! (docs/polar-facts.md#delivery-signature).

use chrono::Utc;

use crate::support::{Delivery, SECRET, TestIngress, WEBHOOK, sign};

#[tokio::test]
async fn every_spoilt_part_is_401_with_its_reason() {
    let ingress = TestIngress::start().await;
    let good = Delivery::grant();
    let spoilt = |spoil: fn(&mut Delivery)| {
        let mut delivery = good.clone();
        spoil(&mut delivery);
        delivery
    };
    let now = Utc::now().timestamp();
    let cases: Vec<(&str, Delivery)> = vec![
        ("webhook-id is missing", spoilt(|d| d.id = String::new())),
        (
            "webhook-timestamp is missing",
            spoilt(|d| d.timestamp = String::new()),
        ),
        (
            "webhook-signature is missing",
            spoilt(|d| d.signature = String::new()),
        ),
        ("no signature matches", spoilt(|d| d.id.push('x'))),
        ("no signature matches", spoilt(|d| d.body.push(b' '))),
        ("no signature matches", spoilt(|d| d.body = b"{}".to_vec())),
        (
            "no signature matches",
            spoilt(|d| d.timestamp = (d.timestamp.parse::<i64>().unwrap() + 1).to_string()),
        ),
        (
            "not a number",
            spoilt(|d| d.timestamp = "yesterday".to_owned()),
        ),
        ("not a number", spoilt(|d| d.timestamp = "NaN".to_owned())),
        ("not a number", spoilt(|d| d.timestamp = "inf".to_owned())),
        (
            "no v1 signature",
            spoilt(|d| d.signature = d.signature.replace("v1,", "v2,")),
        ),
        (
            "no v1 signature",
            spoilt(|d| d.signature = d.signature.replace("v1,", "")),
        ),
        (
            "no v1 signature",
            spoilt(|d| d.signature = "v1,%%%".to_owned()),
        ),
        (
            "no v1 signature",
            spoilt(|d| d.signature = "v1,".to_owned()),
        ),
        ("no v1 signature", spoilt(|d| d.signature.truncate(20))),
        (
            "more than 300 s ago",
            Delivery::signed(SECRET, "old", now - 360, "{}"),
        ),
        (
            "more than 300 s in the future",
            Delivery::signed(SECRET, "new", now + 360, "{}"),
        ),
        (
            "no signature matches",
            Delivery::signed("another secret", "id", now, "{}"),
        ),
    ];
    for (reason, delivery) in cases {
        let answer = ingress.deliver(&delivery).await;
        assert_eq!(answer.status, 401, "{delivery:?}: {answer:?}");
        assert!(answer.body.contains(reason), "{reason}: {answer:?}");
        assert!(!answer.body.contains("whsec"));
    }
    assert_eq!(ingress.events().await, 0);
}

#[tokio::test]
async fn each_missing_header_is_401() {
    let ingress = TestIngress::start().await;
    for missing in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let delivery = Delivery::grant();
        let headers: Vec<_> = delivery
            .headers()
            .into_iter()
            .filter(|(name, _)| *name != missing)
            .collect();
        let answer = ingress
            .send("POST", WEBHOOK, &headers, &delivery.body)
            .await;
        assert_eq!(answer.status, 401);
        assert!(answer.body.contains(missing), "{answer:?}");
    }
    assert_eq!(ingress.send("POST", WEBHOOK, &[], b"{}").await.status, 401);
    assert_eq!(ingress.events().await, 0);
}

#[tokio::test]
async fn header_bytes_that_are_no_text_are_401() {
    let ingress = TestIngress::start().await;
    for spoilt in 0..3 {
        let delivery = Delivery::grant();
        let mut headers = delivery.headers();
        headers[spoilt].1 = vec![b'v', b'1', b',', 0xff, 0xfe];
        assert_eq!(
            ingress
                .send("POST", WEBHOOK, &headers, &delivery.body)
                .await
                .status,
            401
        );
    }
    assert_eq!(ingress.events().await, 0);
}

#[tokio::test]
async fn the_secret_is_used_as_shown_and_never_decoded() {
    let ingress = TestIngress::start().await;
    let decoded = {
        use base64::{
            Engine, alphabet,
            engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
        };
        let lenient = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        GeneralPurpose::new(&alphabet::STANDARD, lenient)
            .decode(SECRET.strip_prefix("whsec_").unwrap())
            .unwrap()
    };
    let mut delivery = Delivery::grant();
    delivery.signature = sign(&decoded, &delivery.id, &delivery.timestamp, &delivery.body);
    assert_eq!(ingress.deliver(&delivery).await.status, 401);
}

#[tokio::test]
async fn one_right_signature_among_others_is_enough() {
    let ingress = TestIngress::start().await;
    let mut delivery = Delivery::grant();
    delivery.signature = format!(
        "v1a,zzz v1,AAAA v1,%%%  {}\tv2,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        delivery.signature
    );
    assert_eq!(ingress.deliver(&delivery).await.status, 202);
}

#[tokio::test]
async fn the_edges_of_the_tolerance_are_inside() {
    let ingress = TestIngress::start().await;
    for offset in [-295, 295] {
        let delivery = Delivery::signed(
            SECRET,
            &format!("at {offset}"),
            Utc::now().timestamp() + offset,
            "{}",
        );
        assert_eq!(ingress.deliver(&delivery).await.status, 202, "{offset}");
    }
}

#[tokio::test]
async fn fractions_of_a_second_are_floored_before_signing() {
    let ingress = TestIngress::start().await;
    let mut delivery = Delivery::grant();
    delivery.timestamp.push_str(".987");
    assert_eq!(ingress.deliver(&delivery).await.status, 202);
}
