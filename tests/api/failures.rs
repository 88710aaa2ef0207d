//! Polar slow, down, limited, or refusing our token.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polar::Unlimited;
use polar_jobs::limiter::{FleetRateLimiter, Limits, Timing};
use serde_json::json;
use simulator::{Faults, Gateway, Product, RequestMatch};
use sqlx::postgres::PgPoolOptions;

use crate::app::{Answer, ApiApp, As, Company, IngressProcess, client, client_within};
use crate::free_port::free_port;
use crate::test_app::DEADLINE;

/// Routes that ask Polar, with what they are told.
const ROUTES: [(&str, &str); 9] = [
    ("GET", "/plans"),
    ("GET", "/subscription"),
    ("POST", "/subscription"),
    ("PATCH", "/subscription"),
    ("DELETE", "/subscription"),
    ("GET", "/orders"),
    ("GET", "/billing-details"),
    ("GET", "/payment-methods"),
    ("POST", "/customer-session"),
];

async fn every_route(app: &ApiApp, company: &Company) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (method, route) in ROUTES {
        let body = json!({"product_id": app.product(Product::Scale)});
        let body = matches!(method, "POST" | "PATCH").then_some(&body);
        answers.push(
            app.send(&company.owner(), method, &company.at(route), body, &[])
                .await,
        );
    }
    answers
}

fn assert_all_are_asked_to_come_again(answers: &[Answer], why: &str) {
    for (answer, route) in answers.iter().zip(ROUTES) {
        assert_eq!(answer.status, 503, "{why}: {route:?} {answer:?}");
        assert!(answer.retry_after().is_some(), "{why}: {route:?}");
    }
}

/// Its customer goes as soon as what it used is reported, and with it whatever is bought until then.
#[tokio::test]
async fn an_organization_that_lives_anew_buys_nothing_on_the_customer_of_its_earlier_life() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let anew = "UPDATE polar_jobs.organizations SET erasure_event = 1 WHERE id = $1::uuid";
    let anew = sqlx::query(anew).bind(company.id());
    anew.execute(&app.pool).await.unwrap();
    // What Polar still says of that customer is not the new life's.
    let cancelled = app.simulator.cancel_at_period_end(company.id()).await;
    cancelled.unwrap();
    app.drain().await;
    let (outcome, note) = app.end("sync_subscription").await;
    assert_eq!(outcome, "ignored");
    assert!(note.contains("earlier life"), "{note}");
    let before = app.simulator.requests().len();
    let answers = every_route(&app, &company).await;
    let answers: Vec<(u16, &str)> = answers.iter().map(|a| (a.status, a.error())).collect();
    let none = (404, "PolarSelfNoActiveSubscription");
    let unknown = (404, "PolarSelfCustomerNotFound");
    assert_eq!(
        answers,
        [
            (200, ""),
            (200, ""),
            (409, "PolarSelfCustomerNotReady"),
            none,
            none,
            (200, ""),
            unknown,
            unknown,
            unknown,
        ]
    );
    let about: Vec<String> = app.simulator.requests()[before..]
        .iter()
        .map(|request| request.path.clone())
        .filter(|path| !path.starts_with("/v1/products/"))
        .collect();
    assert!(about.is_empty(), "{about:?}");
    let view = app
        .ask(&As::Server, "GET", &company.at("/subscription"))
        .await;
    assert_eq!(view.body["plan"]["name"], "Free", "{view:?}");
}

#[tokio::test]
async fn while_polar_is_down_limited_or_refuses_our_token_every_route_asks_to_come_again() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let limited = Faults {
        too_many_requests: 1.0,
        ..Faults::default()
    };
    app.simulator.set_faults(limited);
    assert_all_are_asked_to_come_again(&every_route(&app, &company).await, "limited");
    app.simulator.set_faults(Faults::default());
    for status in [502, 503, 404] {
        let (html, path) = (true, String::new());
        app.simulator
            .set_gateway(Some(Gateway { status, html, path }));
        assert_all_are_asked_to_come_again(&every_route(&app, &company).await, "a gateway");
    }
    app.simulator.set_gateway(None);
    let token = app.simulator.access_token().to_owned();
    app.simulator.revoke_token(&token);
    assert_all_are_asked_to_come_again(&every_route(&app, &company).await, "no token");
    app.simulator.restore_token(&token);
    assert_eq!(every_route(&app, &company).await[0].status, 200);
}

#[tokio::test]
async fn a_polar_that_does_not_answer_keeps_nobody_waiting_for_ten_seconds() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let _held = app.simulator.hold(RequestMatch::path("/v1/").on_arrival());
    for (method, route) in ROUTES {
        let body = json!({"product_id": app.product(Product::Scale)});
        let body = matches!(method, "POST" | "PATCH").then_some(&body);
        let asked = Instant::now();
        let answer = app
            .send(&company.owner(), method, &company.at(route), body, &[])
            .await;
        assert_eq!(answer.status, 503, "{route}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{route}");
    }
}

#[tokio::test]
async fn no_connection_to_the_database_is_held_while_polar_is_asked() {
    const CONNECTIONS: u32 = 2;
    // The calls that each route makes before it needs the first answer.
    const CALLS: usize = 1 + 1 + 3 + 2 + 1 + 1 + 1 + 1 + 1;
    let app = ApiApp::open().await;
    let mut companies = Vec::new();
    for _route in ROUTES {
        companies.push(app.customer_of(Product::Pro).await);
    }
    let options = PgPoolOptions::new().max_connections(CONNECTIONS);
    let pool = options.connect(&app.url).await.unwrap();
    // Longer than the test: nobody is free because a call was given up.
    let polar = client_within(&app, Arc::new(Unlimited), Duration::from_secs(60));
    let few = crate::app::server_on(&app, polar, pool.clone()).await;
    let held = app.simulator.hold(RequestMatch::path("/v1/").on_arrival());
    let callers = companies.iter().zip(ROUTES);
    let callers = callers.map(async |(company, (method, route))| {
        let body = json!({"product_id": app.product(Product::Scale)});
        let body = matches!(method, "POST" | "PATCH").then_some(&body);
        let path = company.at(route);
        let answer = few.send(&company.owner(), method, &path, body).await;
        (method, route, answer)
    });
    let looks = async {
        assert!(held.wait_for(CALLS, DEADLINE).await, "{}", held.arrived());
        // More callers than connections wait for Polar, and all connections are free for others.
        let free = async {
            let connections = (0..CONNECTIONS).map(|_| pool.acquire());
            drop(futures::future::try_join_all(connections).await.unwrap());
        };
        let free = tokio::time::timeout(Duration::from_secs(5), free);
        assert!(free.await.is_ok(), "a connection is held");
        let stranger = As::Browser(companies[0].tenant.owner.clone());
        let refused = few.ask(&stranger, "GET", &companies[1].at("/plans")).await;
        assert_eq!(refused.status, 404, "others are answered meanwhile");
        assert_eq!(held.arrived(), CALLS);
        held.release_all();
    };
    let (answers, ()) = futures::join!(futures::future::join_all(callers), looks);
    for (method, route, answer) in answers {
        let expected = match (method, route) {
            ("POST", "/subscription") => 409, // it pays already
            ("POST", "/customer-session") => 201,
            _ => 200,
        };
        assert_eq!(answer.status, expected, "{method} {route} {answer:?}");
    }
}

#[tokio::test]
async fn without_budget_a_person_is_asked_to_come_again_at_once() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let limits = Limits {
        per_window: NonZeroU32::new(1).unwrap(),
        in_flight: NonZeroU32::new(1).unwrap(),
    };
    let timing = Timing {
        acquire_timeout: Duration::from_millis(200),
        ..Timing::PRODUCTION
    };
    let limiter = Arc::new(FleetRateLimiter::new(app.pool.clone(), limits, timing));
    let polar = client(&app, limiter);
    let spent = polar.products().for_sale();
    drop(spent.await);
    let poor = crate::app::second_server(&app, polar).await;
    let path = company.at("/plans");
    let answer = poor.ask(&company.owner(), "GET", &path).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.retry_after().is_some());
}

#[tokio::test]
async fn a_session_that_polar_refuses_says_nothing_about_our_own_token() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let limits = Limits {
        per_window: NonZeroU32::new(400).unwrap(),
        in_flight: NonZeroU32::new(16).unwrap(),
    };
    let limiter = Arc::new(FleetRateLimiter::new(
        app.pool.clone(),
        limits,
        Timing::PRODUCTION,
    ));
    let server = crate::app::second_server(&app, client(&app, limiter.clone())).await;
    let (html, path) = (false, "/v1/customer-portal/".to_owned());
    app.simulator.set_gateway(Some(Gateway {
        status: 401,
        html,
        path,
    }));
    let refused = server
        .ask(&company.owner(), "GET", &company.at("/billing-details"))
        .await;
    assert_eq!(refused.status, 503);
    assert_eq!(limiter.rejected(), None, "the fleet goes on");
    let plans = server
        .ask(&company.owner(), "GET", &company.at("/plans"))
        .await;
    assert_eq!(plans.status, 200);
}

#[tokio::test]
async fn a_database_that_is_away_is_said_and_not_blamed_on_polar() {
    let app = ApiApp::open().await;
    let nowhere = format!("postgres://postgres@127.0.0.1:{}/app", free_port());
    let process = IngressProcess::start(&app, &[("DATABASE_URL", &nowhere)]).await;
    let path = format!("/v1/organizations/{}/plans", uuid::Uuid::new_v4());
    let answer = process.get(&path).await;
    assert_eq!(
        (answer.status, answer.error()),
        (503, "DatabaseUnavailable"),
        "{answer:?}"
    );
    assert!(answer.retry_after().is_some(), "{answer:?}");
    app.until("the line names the database", async || {
        process.log().contains("database: ")
    })
    .await;
}
