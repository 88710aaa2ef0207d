//! The signature of a delivery: the published vectors, a second opinion, and what nobody promised.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Duration, Utc};
use polar::webhook::{SignatureError, SignatureHeaders, Verified, Verifier};
use proptest::prelude::*;

const ID: &str = "6f1f3c0e-8d2b-4f8e-9a53-3f7c2f0c9b11";
const AT: &str = "1786698729";
const BODY: &str =
    r#"{"type":"order.created","timestamp":"2026-08-14T09:12:09.640112Z","data":{"id":"ord"}}"#;
const SECRET: &str = "whsec_7Qm2xVbT4kRZ0aLpYc9uJ3nWdE6sHgXf1OiKvBtMyNr";
const OLD_SECRET: &str = "polar_whs_8Jd0PqLrT2vXyZ5bNcMwKsAeGhUiOf73";
const OWN_SECRET: &str = "correct horse battery staple, rotated";
const GOOD: &str = "v1,tqG/LfCgaGX8yTKyszI7SprsIOEBxEuB6v19HIcz7Oo=";
const GOOD_OLD: &str = "v1,QjW2BUyfRcEWvNhHsr/1sdbVuzMa4+BLDrJP80GA+y0=";
const GOOD_OWN: &str = "v1,4gZKDMT81F4C2nPpkc/CtMTFYdQU1PiSoX/Zw158kKU=";
const WRONGLY_DECODED: &str = "v1,h9MfEW1MfhQh1yCvoD/GFCOCgF+Cd85eDwITQOc4dr8=";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_786_698_729, 0).unwrap()
}

fn verifier(secrets: &[&str]) -> Verifier {
    Verifier::new(secrets.iter().map(|&secret| secret.into()).collect())
}

fn headers<'a>(id: &'a str, timestamp: &'a str, signature: &'a str) -> SignatureHeaders<'a> {
    SignatureHeaders {
        id: Some(id.as_bytes()),
        timestamp: Some(timestamp.as_bytes()),
        signature: Some(signature.as_bytes()),
    }
}

fn check<'a>(secret: &str, signature: &'a str) -> Result<Verified<'a>, SignatureError> {
    verifier(&[secret]).verify(headers(ID, AT, signature), BODY.as_bytes(), now())
}

#[test]
fn the_published_vectors_verify() {
    assert_eq!(
        check(SECRET, GOOD),
        Ok(Verified {
            id: ID,
            signed_at: 1_786_698_729,
            body: BODY.as_bytes()
        })
    );
    assert!(check(OLD_SECRET, GOOD_OLD).is_ok());
    assert!(check(OWN_SECRET, GOOD_OWN).is_ok());
    let body = r#"{"type":"customer.updated","timestamp":"2026-08-14T09:12:09.640112Z","data":{"name":"Blå Lykta ☕"}}"#;
    let signature = "v1,AB6TeRNdrd6s6byF5wtsAwD1vi+olBn0/Iiw03CjHeY=";
    let verdict = verifier(&[SECRET]).verify(headers(ID, AT, signature), body.as_bytes(), now());
    assert!(verdict.is_ok());
}

#[test]
fn a_secret_read_the_usual_way_is_rejected() {
    assert_eq!(
        check(SECRET, WRONGLY_DECODED),
        Err(SignatureError::Mismatch)
    );
}

#[test]
fn a_stock_library_agrees_when_given_the_whole_secret() {
    for secret in [SECRET, OLD_SECRET, OWN_SECRET] {
        let stock = standardwebhooks::Webhook::new(&STANDARD.encode(secret)).unwrap();
        let signature = stock.sign(ID, now().timestamp(), BODY.as_bytes()).unwrap();
        assert!(check(secret, &signature).is_ok(), "{secret}");
    }
    assert_eq!(
        STANDARD.encode(SECRET),
        "d2hzZWNfN1FtMnhWYlQ0a1JaMGFMcFljOXVKM25XZEU2c0hnWGYxT2lLdkJ0TXlOcg=="
    );
}

#[test]
fn any_configured_secret_accepts() {
    for (signature, id) in [(GOOD, 0), (GOOD_OLD, 1), (GOOD_OWN, 2)] {
        let all = verifier(&[SECRET, OLD_SECRET, OWN_SECRET]);
        assert!(
            all.verify(headers(ID, AT, signature), BODY.as_bytes(), now())
                .is_ok(),
            "{id}"
        );
    }
    let others = verifier(&[OLD_SECRET, OWN_SECRET]);
    let verdict = others.verify(headers(ID, AT, GOOD), BODY.as_bytes(), now());
    assert_eq!(verdict, Err(SignatureError::Mismatch));
}

#[test]
fn an_empty_secret_verifies_nothing() {
    let none = verifier(&["", ""]);
    assert!(!none.is_configured());
    let signed_with_nothing =
        standardwebhooks::Webhook::from_bytes(vec![])
            .unwrap()
            .sign(ID, now().timestamp(), b"{}");
    let signature = signed_with_nothing.unwrap();
    let request = headers(ID, AT, &signature);
    assert_eq!(
        none.verify(request, b"{}", now()),
        Err(SignatureError::NoSecret)
    );
    let mixed = verifier(&["", SECRET]);
    assert_eq!(
        mixed.verify(request, b"{}", now()),
        Err(SignatureError::Mismatch)
    );
}

#[test]
fn other_tokens_in_the_header_do_not_disturb() {
    for signature in [
        format!("v1,AAAA {GOOD}"),
        format!("v2,whatever  v1a,{GOOD} v1,!!! \t{GOOD}"),
        format!("{WRONGLY_DECODED} {GOOD}"),
        format!("{GOOD} {WRONGLY_DECODED}"),
    ] {
        assert!(check(SECRET, &signature).is_ok(), "{signature}");
    }
    let unpadded = GOOD.trim_end_matches('=');
    for signature in [
        "v1,",
        "v1",
        "garbage",
        unpadded,
        "v1,AAAA",
        &GOOD[3..],
        "V1,AAAA",
    ] {
        assert_eq!(
            check(SECRET, signature),
            Err(SignatureError::UnreadableSignature)
        );
    }
}

#[test]
fn missing_and_empty_headers_are_told_apart() {
    let good = headers(ID, AT, GOOD);
    let verify = |headers| verifier(&[SECRET]).verify(headers, BODY.as_bytes(), now());
    for absent in [None, Some(&b""[..])] {
        let verdict = verify(SignatureHeaders { id: absent, ..good });
        assert_eq!(verdict, Err(SignatureError::MissingId));
        let verdict = verify(SignatureHeaders {
            timestamp: absent,
            ..good
        });
        assert_eq!(verdict, Err(SignatureError::MissingTimestamp));
        let verdict = verify(SignatureHeaders {
            signature: absent,
            ..good
        });
        assert_eq!(verdict, Err(SignatureError::MissingSignature));
    }
    let verdict = verify(SignatureHeaders {
        id: Some(b"\xff"),
        ..good
    });
    assert_eq!(verdict, Err(SignatureError::UnreadableId));
    for timestamp in ["nan", "inf", "-inf", "yesterday", "0x10", "1 2"] {
        let verdict = verify(SignatureHeaders {
            timestamp: Some(timestamp.as_bytes()),
            ..good
        });
        assert_eq!(
            verdict,
            Err(SignatureError::UnreadableTimestamp),
            "{timestamp}"
        );
    }
}

#[test]
fn the_edges_of_the_tolerance_are_inside() {
    let at = |offset| {
        let now = now() + Duration::milliseconds(offset);
        verifier(&[SECRET])
            .verify(headers(ID, AT, GOOD), BODY.as_bytes(), now)
            .map(|v| v.signed_at)
    };
    assert_eq!(at(300_000), Ok(1_786_698_729));
    assert_eq!(
        at(300_999),
        Ok(1_786_698_729),
        "our clock counts in whole seconds too"
    );
    assert_eq!(at(301_000), Err(SignatureError::TooOld));
    assert_eq!(at(-300_000), Ok(1_786_698_729));
    assert_eq!(at(-300_001), Err(SignatureError::TooNew));
}

#[test]
fn a_wrong_time_is_told_only_to_who_has_the_secret() {
    let later = now() + Duration::days(1);
    let verify = |body: &[u8]| {
        let verdict = verifier(&[SECRET]).verify(headers(ID, AT, GOOD), body, later);
        verdict.map(|verified| verified.signed_at)
    };
    assert_eq!(verify(BODY.as_bytes()), Err(SignatureError::TooOld));
    assert_eq!(verify(b"forged"), Err(SignatureError::Mismatch));
}

#[test]
fn decimals_are_floored_before_signing() {
    for timestamp in ["1786698729.0", "1786698729.999", "1.786698729e9"] {
        let verdict =
            verifier(&[SECRET]).verify(headers(ID, timestamp, GOOD), BODY.as_bytes(), now());
        assert_eq!(
            verdict.map(|v| v.signed_at),
            Ok(1_786_698_729),
            "{timestamp}"
        );
    }
}

#[test]
fn neither_verifier_nor_error_shows_a_secret() {
    let shown = format!("{:?}", verifier(&[SECRET, OWN_SECRET]));
    assert_eq!(shown, "Verifier { secrets: 2 }");
}

fn header() -> impl Strategy<Value = Option<Vec<u8>>> {
    let text = "[ -~]{0,80}".prop_map(String::into_bytes);
    let near = "v1,[A-Za-z0-9+/]{43}=".prop_map(String::into_bytes);
    let number = any::<f64>().prop_map(|number| number.to_string().into_bytes());
    let present = Just(AT.as_bytes().to_vec());
    let bytes = proptest::collection::vec(any::<u8>(), 0..80);
    proptest::option::of(prop_oneof![text, near, number, present, bytes])
}

proptest! {
    #[test]
    fn garbage_is_refused_and_never_panics(
        id in header(),
        timestamp in header(),
        signature in header(),
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let headers = SignatureHeaders {
            id: id.as_deref(),
            timestamp: timestamp.as_deref(),
            signature: signature.as_deref(),
        };
        prop_assert!(verifier(&[SECRET]).verify(headers, &body, now()).is_err());
    }

    #[test]
    fn what_a_stock_library_signs_is_accepted_and_one_bit_off_is_not(
        secret in "[ -~]{1,80}",
        id in "[!-~]{1,60}",
        body in "\\PC{1,200}",
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let stock = standardwebhooks::Webhook::from_bytes(secret.clone().into_bytes()).unwrap();
        let signature = stock.sign(&id, now().timestamp(), body.as_bytes()).unwrap();
        let body = body.into_bytes();
        let (verifier, headers) = (verifier(&[&secret]), headers(&id, AT, &signature));
        prop_assert!(verifier.verify(headers, &body, now()).is_ok());
        let mut changed = body.clone();
        changed[place.index(body.len())] ^= 1 << bit;
        prop_assert_eq!(verifier.verify(headers, &changed, now()), Err(SignatureError::Mismatch));
    }
}

#[test]
fn any_flipped_bit_is_rejected() {
    let parts = [ID, AT, GOOD, BODY].map(|part| part.as_bytes().to_vec());
    let verifier = verifier(&[SECRET]);
    for (part, bytes) in parts.iter().enumerate() {
        for bit in 0..bytes.len() * 8 {
            let mut changed = parts.clone();
            changed[part][bit / 8] ^= 1 << (bit % 8);
            let [id, timestamp, signature, body] = &changed;
            let headers = SignatureHeaders {
                id: Some(id),
                timestamp: Some(timestamp),
                signature: Some(signature),
            };
            assert!(
                verifier.verify(headers, body, now()).is_err(),
                "part {part}, bit {bit}"
            );
        }
    }
}
