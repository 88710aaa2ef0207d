//! What the API logs: one line per request, on refusals too, and nothing that is a secret or says who somebody is.

use serde_json::{Value, json};
use simulator::{Product, RequestMatch};

use crate::app::{
    ApiApp, As, Company, IngressProcess, SESSION_SECRET, TOKEN_OF_PROCESS, http, mail, send,
    session,
};
use crate::test_app::{DEADLINE, user};

/// The lines about requests, oldest first.
fn answered(process: &IngressProcess) -> Vec<Value> {
    lines(process, "answered")
}

fn lines(process: &IngressProcess, message: &str) -> Vec<Value> {
    let log = process.log();
    // The last one may be half written.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let lines = whole.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    });
    lines
        .filter(|line| text(line, "message") == message)
        .collect()
}

/// A field, wherever the format puts it.
fn text<'l>(line: &'l Value, name: &str) -> &'l str {
    field(line, name).as_str().unwrap_or_default()
}

fn field<'l>(line: &'l Value, name: &str) -> &'l Value {
    line.get(name).unwrap_or(&line["fields"][name])
}

/// The route as the log names it, who asks, the method, the path, the body, the expected status.
type Call<'a> = (
    &'a str,
    Option<&'a str>,
    &'a str,
    &'a str,
    Option<&'a Value>,
    u64,
);

#[tokio::test]
async fn each_request_is_one_line_with_whom_it_was_about_and_without_bodies_and_tokens() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let settings = [
        ("APP_SESSION_SECRET", SESSION_SECRET),
        ("LOG_FORMAT", "json"),
        ("RUST_LOG", "debug"),
    ];
    let process = IngressProcess::start(&app, &settings).await;
    let details = json!({"billing_name": "Gerda Geheim", "billing_address": {"country": "DE", "line1": "Versteckweg 7"}});
    let bad_details = json!({"billing_name": "Gerda Geheim", "tax_id": "XX-geheim-1"});
    let invited = json!({"invited_email": "gerda.geheim"});
    let grant = format!("/benefit-grants/{}", uuid::Uuid::new_v4());
    let (owner, admin) = (&company.tenant.owner, &company.admin);
    let stranger = user();
    let requests: [Call<'_>; 8] = [
        ("GET /plans", Some(owner), "GET", "/plans", None, 200),
        (
            "PATCH /billing-details",
            Some(owner),
            "PATCH",
            "/billing-details",
            Some(&details),
            200,
        ),
        (
            "PATCH /billing-details",
            Some(owner),
            "PATCH",
            "/billing-details",
            Some(&bad_details),
            422,
        ),
        (
            "PATCH /benefit-grants/{grant_id}",
            Some(admin),
            "PATCH",
            &grant,
            Some(&invited),
            404,
        ),
        (
            "POST /customer-session",
            Some(admin),
            "POST",
            "/customer-session",
            None,
            201,
        ),
        (
            "GET /subscription",
            Some(&stranger),
            "GET",
            "/subscription",
            None,
            404,
        ),
        (
            "DELETE /subscription",
            Some(&company.member),
            "DELETE",
            "/subscription",
            None,
            403,
        ),
        ("GET /orders", None, "GET", "/orders", None, 401),
    ];
    for (_, person, method, route, body, status) in &requests {
        let who = person.map_or(As::Nobody, |person| As::Browser(person.to_owned()));
        let path = company.at(route);
        let answer = send(&http(), process.address, &who, method, &path, *body, &[]).await;
        assert_eq!(
            u64::from(answer.status),
            *status,
            "{method} {route} {answer:?}"
        );
    }
    app.until("each request has its line", async || {
        answered(&process).len() >= requests.len()
    })
    .await;
    let lines = answered(&process);
    assert_eq!(lines.len(), requests.len(), "one line each");
    for (line, (named, person, .., status)) in lines.iter().zip(&requests) {
        let (method, route) = named.split_once(' ').unwrap();
        assert_eq!(text(line, "method"), method, "{line}");
        assert_eq!(
            text(line, "route"),
            format!("/v1/organizations/{{organization_id}}{route}")
        );
        assert_eq!(text(line, "organization"), company.id(), "{line}");
        assert_eq!(text(line, "person"), person.unwrap_or_default(), "{line}");
        assert_eq!(field(line, "status"), status, "{line}");
        assert!(field(line, "milliseconds").is_number(), "{line}");
    }
    assert_nothing_is_told(&process.log(), &company);
}

fn assert_nothing_is_told(log: &str, company: &Company) {
    let owner = mail(&company.tenant.owner);
    for secret in [
        SESSION_SECRET,
        TOKEN_OF_PROCESS,
        "Bearer",
        "polar_mst_",
        session(&company.tenant.owner).split('.').next().unwrap(),
        "Gerda",
        "geheim",
        "Versteckweg",
        "Olga",
        &owner,
    ] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn a_request_that_polar_did_not_answer_says_which_call_failed() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let process = IngressProcess::start(&app, &[("LOG_FORMAT", "json")]).await;
    app.simulator.fail_customer(company.id());
    let path = company.at("/subscription");
    let answer = process.get(&path).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    app.until("the line is written", async || {
        !answered(&process).is_empty()
    })
    .await;
    let lines = answered(&process);
    let [line] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(
        text(line, "error").contains("GET /v1/subscriptions/"),
        "{line}"
    );
    assert_eq!(
        text(line, "person"),
        "",
        "the application's server is nobody"
    );
}

#[tokio::test]
async fn whoever_hangs_up_leaves_a_line_too() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let process = IngressProcess::start(&app, &[("LOG_FORMAT", "json")]).await;
    let held = app.simulator.hold(RequestMatch::path("/v1/").on_arrival());
    let url = format!("http://{}{}", process.address, company.at("/plans"));
    let asked = http().get(url).bearer_auth(TOKEN_OF_PROCESS).send();
    let asked = tokio::spawn(asked);
    assert!(held.wait_for(1, DEADLINE).await);
    asked.abort();
    app.until("the line is written", async || {
        !lines(&process, "the caller hung up").is_empty()
    })
    .await;
    let lines = lines(&process, "the caller hung up");
    assert_eq!(text(&lines[0], "organization"), company.id());
    assert!(field(&lines[0], "status").is_null(), "{lines:?}");
}
