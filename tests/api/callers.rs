//! Who may do what, and that nobody learns more than that.

use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use simulator::Product;
use uuid::Uuid;

use crate::app::{
    Answer, ApiApp, As, Company, SESSION_SECRET, now, signed, unsigned, with_signature,
};
use crate::test_app::user;

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Needs {
    Manages,
    ManagesAsPerson,
    Belongs,
}

/// Every route, with a body that it takes.
const ROUTES: [(&str, &str, Needs); 16] = [
    ("GET", "/plans", Needs::Manages),
    ("GET", "/subscription", Needs::Manages),
    ("POST", "/subscription", Needs::Manages),
    ("PATCH", "/subscription", Needs::Manages),
    ("DELETE", "/subscription", Needs::Manages),
    ("POST", "/startup-program/claim", Needs::Manages),
    ("GET", "/orders", Needs::Belongs),
    ("GET", "/orders/{}/invoice", Needs::Belongs),
    ("GET", "/billing-details", Needs::ManagesAsPerson),
    ("PATCH", "/billing-details", Needs::ManagesAsPerson),
    ("GET", "/payment-methods", Needs::ManagesAsPerson),
    ("DELETE", "/payment-methods/{}", Needs::ManagesAsPerson),
    (
        "POST",
        "/payment-methods/{}/default",
        Needs::ManagesAsPerson,
    ),
    ("POST", "/customer-session", Needs::ManagesAsPerson),
    ("GET", "/benefit-grants", Needs::ManagesAsPerson),
    ("PATCH", "/benefit-grants/{}", Needs::ManagesAsPerson),
];

fn body(method: &str) -> Option<Value> {
    let body = json!({"product_id": Uuid::new_v4(), "invited_email": "a@example.com", "billing_name": "Acme"});
    matches!(method, "POST" | "PATCH").then_some(body)
}

async fn call(app: &ApiApp, company: &Company, who: &As, route: usize) -> Answer {
    let (method, route, _) = ROUTES[route];
    let path = company.at(&route.replace("{}", &Uuid::new_v4().to_string()));
    app.send(who, method, &path, body(method).as_ref(), &[])
        .await
}

/// The status with which a caller is refused; `None` for one who may.
fn refusal(needs: Needs, role: &str, server: bool) -> Option<u16> {
    match (needs, role) {
        (Needs::ManagesAsPerson, _) if server => Some(401),
        _ if server => None,
        (_, "stranger" | "removed") => Some(404),
        (Needs::Belongs, _) | (_, "owner" | "admin") => None,
        _ => Some(403),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_takes_exactly_the_callers_and_roles_that_it_should_whatever_the_status() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let removed = user();
    app.tell(&[
        company
            .tenant
            .added(&removed, "removed@example.com", "admin"),
        company.tenant.removed(&removed),
    ])
    .await;
    app.drain().await;
    let cases = (
        0..ROUTES.len(),
        0..6_usize,
        0..3_u8,
        prop::sample::select(vec!["active", "review", "blocked", "created"]),
    );
    let mut runner = TestRunner::new(Config {
        cases: 192,
        ..Config::default()
    });
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::block_in_place(|| {
        runner.run(&cases, |(route, role, caller, status)| {
            let role = ["owner", "admin", "finance", "member", "stranger", "removed"][role];
            let person = match role {
                "owner" => company.tenant.owner.clone(),
                "admin" => company.admin.clone(),
                "finance" => company.finance.clone(),
                "member" => company.member.clone(),
                "removed" => removed.clone(),
                _ => user(),
            };
            let who = match caller {
                0 => As::Server,
                1 => As::ServerFor(person),
                _ => As::Browser(person),
            };
            let wanted = refusal(ROUTES[route].2, role, caller == 0);
            let answer = runtime.block_on(async {
                sqlx::query("UPDATE polar_jobs.organizations SET status = $2 WHERE id = $1::uuid")
                    .bind(company.id())
                    .bind(status)
                    .execute(&app.pool)
                    .await
                    .unwrap();
                let before = app.simulator.requests().len();
                let answer = call(&app, &company, &who, route).await;
                let asked = app.simulator.requests().len() > before;
                assert!(
                    wanted.is_none() || !asked,
                    "who is refused costs no call to Polar"
                );
                answer
            });
            match wanted {
                Some(status) => prop_assert_eq!(answer.status, status, "{:?} {:?}", who, answer),
                None => prop_assert!(
                    !matches!(
                        answer.error(),
                        "Unauthorized" | "NotPermitted" | "ResourceNotFound"
                    ),
                    "{:?} {:?}",
                    who,
                    answer
                ),
            }
            Ok(())
        })
    });
    done.unwrap();
}

async fn ask_as(app: &ApiApp, authorization: &str, path: &str) -> Answer {
    let headers = [("authorization", authorization)];
    app.send(&As::Nobody, "GET", path, None, &headers).await
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_the_answer_is_the_same_401() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let (owner, now) = (&company.tenant.owner, now());
    let claims = |change: Value| {
        let mut claims = json!({"sub": owner, "aud": "polar-jobs", "exp": now + 600});
        for (key, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(key)),
                value => claims[key] = value.clone(),
            }
        }
        signed(&claims)
    };
    let good = json!({"sub": owner, "aud": "polar-jobs", "exp": now + 600});
    let with_another_algorithm = {
        let message = unsigned("HS512", &good);
        let key = Hmac::<Sha512>::new_from_slice(SESSION_SECRET.as_bytes()).unwrap();
        let signature = key.chain_update(&message).finalize().into_bytes();
        with_signature(&message, &signature)
    };
    let with_another_key = {
        let message = unsigned("HS256", &good);
        let key = Hmac::<Sha256>::new_from_slice(b"another key that is long enough too").unwrap();
        let signature = key.chain_update(&message).finalize().into_bytes();
        with_signature(&message, &signature)
    };
    let whole = signed(&good);
    let (message, signature) = whole.rsplit_once('.').unwrap();
    let wrong = [
        String::new(),
        "nonsense".to_owned(),
        format!("{}.", unsigned("none", &good)),
        format!("{}.{signature}", unsigned("RS256", &good)),
        format!("{message}."),
        format!("{message}.{}", &signature[..signature.len() - 4]),
        with_another_algorithm,
        with_another_key,
        claims(json!({"exp": now - 6})),
        claims(json!({"exp": now + 3700})),
        claims(json!({"exp": null})),
        claims(json!({"exp": "never"})),
        claims(json!({"aud": "another-service"})),
        claims(json!({"aud": null})),
        claims(json!({"sub": "not-a-uuid"})),
        claims(json!({"sub": null})),
        claims(json!({"nbf": now + 60})),
    ];
    let plans = company.at("/plans");
    let missing = app.ask(&As::Nobody, "GET", &plans).await;
    assert_eq!(missing.status, 401);
    for token in wrong {
        let answer = ask_as(&app, &format!("Bearer {token}"), &plans).await;
        assert_eq!(answer.status, 401, "{token}");
        assert_eq!(answer.body, missing.body, "{token}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    for good in [
        claims(json!({})),
        claims(json!({"exp": now - 2})),
        claims(json!({"aud": ["polar-jobs", "other"]})),
    ] {
        let answer = ask_as(&app, &format!("bearer {good}"), &plans).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn on_behalf_of_names_one_person_and_only_beside_the_applications_token() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let plans = company.at("/plans");
    let admin = company.admin.clone();
    for (who, headers, status) in [
        (As::Server, vec![("on-behalf-of", "")], 400),
        (As::Server, vec![("on-behalf-of", "me")], 400),
        (
            As::Server,
            vec![
                ("on-behalf-of", admin.as_str()),
                ("on-behalf-of", admin.as_str()),
            ],
            400,
        ),
        (
            As::Browser(admin.clone()),
            vec![("on-behalf-of", admin.as_str())],
            400,
        ),
        (As::Nobody, vec![("on-behalf-of", admin.as_str())], 401),
        (As::Server, vec![("on-behalf-of", admin.as_str())], 200),
    ] {
        let answer = app.send(&who, "GET", &plans, None, &headers).await;
        assert_eq!(answer.status, status, "{who:?} {headers:?}");
    }
}

#[tokio::test]
async fn without_secrets_nobody_is_answered_and_without_billing_people_are_told_so() {
    let closed = ApiApp::with(|settings| {
        settings.app_token = None;
        settings.app.session_secret = None;
    })
    .await;
    let answer = closed
        .ask(
            &As::Nobody,
            "GET",
            &format!("/v1/organizations/{}/plans", user()),
        )
        .await;
    assert_eq!(answer.status, 503);
    let off = ApiApp::with(|settings| settings.polar = None).await;
    let company = off.company().await;
    for (route, (_, path, _)) in ROUTES.iter().enumerate() {
        let answer = call(&off, &company, &company.owner(), route).await;
        let path_names_nothing = path.contains("{}");
        assert!(
            answer.error() == "PolarSelfNotConfigured" || path_names_nothing,
            "{route} {answer:?}"
        );
        assert_eq!(answer.status, 404);
    }
}

#[tokio::test]
async fn an_organization_of_others_cannot_be_told_from_one_that_does_not_exist() {
    let app = ApiApp::open().await;
    let (mine, theirs) = (app.company().await, app.customer_of(Product::Pro).await);
    let deleted = app.company().await;
    app.tell(&[deleted.tenant.deleted()]).await;
    app.drain().await;
    for (method, route, _) in ROUTES {
        let route = route.replace("{}", &Uuid::new_v4().to_string());
        let ask = async |id: &str, who: &As| {
            let path = format!("/v1/organizations/{id}{route}");
            let answer = app
                .send(who, method, &path, body(method).as_ref(), &[])
                .await;
            (answer.status, answer.body)
        };
        let unknown = ask(&Uuid::new_v4().to_string(), &mine.owner()).await;
        assert_eq!(unknown.0, 404, "{method} {route}");
        assert_eq!(ask(theirs.id(), &mine.owner()).await, unknown);
        assert_eq!(ask(deleted.id(), &deleted.owner()).await, unknown);
        assert_eq!(ask("not-an-id", &mine.owner()).await, unknown);
    }
}

#[tokio::test]
async fn other_methods_are_405_and_browsers_of_other_origins_are_told_nothing() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    for (_, route, _) in ROUTES {
        let path = company.at(&route.replace("{}", &Uuid::new_v4().to_string()));
        for method in ["PUT", "TRACE", "OPTIONS"] {
            assert_eq!(
                app.ask(&As::Server, method, &path).await.status,
                405,
                "{method} {route}"
            );
        }
    }
    let path = company.at("/subscription");
    for (origin, allowed) in [
        ("https://app.example.com", true),
        ("https://evil.example", false),
        ("null", false),
    ] {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
        ];
        let asked = app
            .send(&As::Nobody, "OPTIONS", &path, None, &headers)
            .await;
        assert_eq!(asked.status, if allowed { 204 } else { 405 }, "{origin}");
        let answer = app
            .send(&company.owner(), "GET", &path, None, &[("origin", origin)])
            .await;
        for headers in [asked.headers, answer.headers] {
            let named = headers.get("access-control-allow-origin");
            assert_eq!(named.is_some(), allowed, "{origin}");
            assert_eq!(headers["vary"], "origin");
        }
    }
}
