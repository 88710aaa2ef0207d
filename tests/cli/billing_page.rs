//! The billing page of `dev` in a real browser: bought, upgraded, invoiced, cancelled and resumed, through nothing but the
//! organizations API and Polar's own pages.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use private_postgres::testing;
use reqwest::Client;
use serde_json::Value;
use sqlx::PgPool;

use super::browser::Browser;
use super::support::{DEADLINE, Running, start, until};

/// `dev` with its scenario behind it, on a database of the test's own.
struct Dev {
    lines: Vec<String>,
    _process: Running,
    _data: tempfile::TempDir,
}

impl Dev {
    fn start(database: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let settings = [("DATABASE_URL", database), ("RUST_LOG", "warn")];
        let directory = data.path().to_str().unwrap();
        let arguments = ["dev", "--port", "0", "--data-dir", directory];
        let mut process = start(&settings, &arguments);
        let written = said(process.stdout.take().unwrap());
        let mut lines: Vec<String> = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        while !lines.iter().any(|line| line.contains("stays open")) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = written.recv_timeout(left);
            lines.push(line.unwrap_or_else(|_| panic!("the scenario does not end: {lines:#?}")));
        }
        Self {
            lines,
            _process: process,
            _data: data,
        }
    }

    /// The address in the line that begins with this word.
    fn address(&self, word: &str) -> &str {
        let mut lines = self.lines.iter().map(|line| line.split_whitespace());
        let found = lines.find_map(|mut words| (words.next() == Some(word)).then(|| words.next()));
        found
            .flatten()
            .unwrap_or_else(|| panic!("no {word} in {:#?}", self.lines))
    }
}

/// All lines of a pipe, which is read to its end so that it never fills.
fn said(written: ChildStdout) -> Receiver<String> {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(written).lines().map_while(Result::ok);
        lines.for_each(|line| drop(tx.send(line)));
    });
    rx
}

fn client() -> Client {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().tls_certs_only([]);
    client.build().unwrap()
}

/// Polar makes invoices when somebody asks for them, as the mail of an order does.
async fn generate_invoice(polar: &str, order: &str) {
    let http = client();
    let asked = http
        .post(format!("{polar}/v1/orders/{order}/invoice"))
        .bearer_auth("polar_oat_simulator")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 202);
    let order = format!("{polar}/v1/orders/{order}");
    until(async || {
        let order = http.get(&order).bearer_auth("polar_oat_simulator").send();
        let order: Value = order.await.unwrap().json().await.unwrap();
        order["is_invoice_generated"] == true
    })
    .await;
}

async fn plan_in_our_tables(pool: &PgPool, name: &str) -> (String, bool) {
    sqlx::query_as(
        "SELECT e.plan, coalesce(s.cancel_at_period_end, false)
           FROM polar_jobs.entitlements e
           JOIN polar_jobs.organizations o ON o.id = e.organization_id
           LEFT JOIN polar_jobs.subscriptions s USING (organization_id)
          WHERE o.name = $1",
    )
    .bind(name)
    .fetch_one(pool)
    .await
    .unwrap()
}

#[tokio::test]
#[ignore = "needs a browser; .ci/run runs it"]
async fn a_browser_buys_upgrades_opens_an_invoice_cancels_and_resumes() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let url = database.url.clone();
    let dev = tokio::task::spawn_blocking(move || Dev::start(&url))
        .await
        .unwrap();
    let (page, polar) = (dev.address("billing"), dev.address("polar"));
    let browser = Browser::start().await;

    browser.open(page).await;
    browser.shows("#plan", "Free").await;
    browser
        .shows("[data-plan=Growth] .price", "$50.00 a month")
        .await;

    let shown = "return import('/money.js').then(({ money }) => arguments[0].map(([amount, code]) => money(amount, code)))";
    let amounts = serde_json::json!([
        [900, "usd"],
        [900, "jpy"],
        [900, "MGA"],
        [900, "isk"],
        [90000, "huf"],
        [9000, "kwd"]
    ]);
    let shown = browser.run(shown, serde_json::json!([amounts])).await;
    let shown = shown.to_string().replace('\u{a0}', " ");
    assert_eq!(
        shown,
        r#"["$9.00","¥900","MGA 900","ISK 9.00","HUF 900.00","KWD 9.000"]"#
    );

    browser.click("[data-plan=Pro] button").await;
    browser.shows("h1", "Checkout").await;
    browser.shows(".total", "$20.00").await;
    browser.click("#card-0002").await;
    browser.click("#pay").await;
    browser.shows("[role=alert]", "declined").await;
    browser.click("#card-4242").await;
    browser.click("#pay").await;
    browser
        .shows("#message", "Thank you. You are on Pro.")
        .await;
    assert!(browser.address().await.starts_with(page));
    browser.shows("#price", "$20.00 a month").await;

    browser.click("[data-plan=Growth] button").await;
    browser.shows("#message", "You are on Growth.").await;
    browser.shows("#plan", "Growth").await;
    browser.shows("#orders tr:first-child", "paid").await;
    until(async || plan_in_our_tables(&database.pool, "Umbrella").await.0 == "Growth").await;

    let newest = "return document.querySelector('#orders tr').dataset.order";
    let order = browser.run(newest, serde_json::json!([])).await;
    generate_invoice(polar, order.as_str().unwrap()).await;
    browser.open(page).await;
    browser.click("#orders tr:first-child button").await;
    until(async || browser.address().await.contains("/invoices/SELF-")).await;

    browser.open(page).await;
    browser.click("#cancel").await;
    browser.shows("#message", "You keep Growth until").await;
    browser.shows("#status", "cancelled").await;
    until(async || plan_in_our_tables(&database.pool, "Umbrella").await == ("Growth".into(), true))
        .await;
    browser.click("#resume").await;
    browser.shows("#message", "You are on Growth.").await;
    browser.shows("#status", "active").await;
    until(async || {
        plan_in_our_tables(&database.pool, "Umbrella").await == ("Growth".into(), false)
    })
    .await;

    let console = browser.console().await.to_string();
    assert!(!console.contains("Content Security Policy"), "{console}");
    assert!(!console.contains("CORS"), "{console}");
}

/// Calls as `METHOD /path/…` below an organization, each id a `{}`.
fn described() -> BTreeSet<String> {
    let document = polar_jobs::api::document();
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut calls = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let below = path.strip_prefix("/v1/organizations/{organization_id}");
        for method in methods.as_object().unwrap().keys() {
            let parts = below.unwrap_or(path).split('/');
            let parts = parts.map(|part| if part.starts_with('{') { "{}" } else { part });
            let path: Vec<&str> = parts.collect();
            calls.insert(format!("{} {}", method.to_uppercase(), path.join("/")));
        }
    }
    calls
}

/// A path as it is written in a script or in a document, without its query and with `{}` for each id.
fn template(written: &str) -> String {
    let path = written.split('?').next().unwrap();
    let id = |part: &&str| part.starts_with("${") || part.ends_with("_ID");
    let parts = path
        .split('/')
        .map(|part| if id(&part) { "{}" } else { part });
    parts.collect::<Vec<&str>>().join("/")
}

#[test]
fn the_page_and_its_document_call_what_the_api_describes_and_nothing_else() {
    let described = described();
    let script = include_str!("../../src/cli/dev/billing_page/billing.js");
    let mut in_page = BTreeSet::new();
    for call in script.split("api.get(").skip(1) {
        let path = call.split(['"', '`']).nth(1).unwrap();
        in_page.insert(format!("GET {}", template(path)));
    }
    for call in script.split("api.change(").skip(1) {
        let mut words = call.split('"');
        let (method, path) = (words.nth(1).unwrap(), words.nth(1).unwrap());
        in_page.insert(format!("{method} {}", template(path)));
    }
    let document = include_str!("../../docs/billing-page.md");
    let mut in_document = BTreeSet::new();
    for line in document.lines().filter(|line| line.starts_with("call ")) {
        let method = line.strip_prefix("call -X ");
        let method = method.map_or("GET", |rest| rest.split(' ').next().unwrap());
        let path = line
            .split("/v1/organizations/$ORGANIZATION")
            .nth(1)
            .unwrap();
        in_document.insert(format!(
            "{method} {}",
            template(path.split('"').next().unwrap())
        ));
    }
    assert!(in_page.len() >= 7, "{in_page:?}");
    assert_eq!(in_page, in_document);
    assert!(
        in_page.is_subset(&described),
        "{in_page:?} of {described:?}"
    );
}

#[tokio::test]
async fn the_page_answers_under_its_own_name_only_and_signs_for_people_it_knows() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let url = database.url.clone();
    let dev = tokio::task::spawn_blocking(move || Dev::start(&url))
        .await
        .unwrap();
    let (page, ingress) = (dev.address("billing"), dev.address("ingress"));
    let http = client();
    let foreign = http
        .get(format!("{page}/session"))
        .header("host", "rebound.example");
    assert_eq!(foreign.send().await.unwrap().status(), 421);
    let unknown = format!("{page}/session?organization={}", uuid::Uuid::new_v4());
    assert_eq!(http.get(unknown).send().await.unwrap().status(), 404);
    let index = http.get(page).send().await.unwrap();
    let policy = index.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");

    let session = http.get(format!("{page}/session")).send().await.unwrap();
    let session: Value = session.json().await.unwrap();
    assert_eq!(session["api"], ingress);
    let token = session["token"].as_str().unwrap();
    let call = async |organization: &Value| {
        let id = organization.as_str().unwrap();
        let plans = http.get(format!("{ingress}/v1/organizations/{id}/plans"));
        plans.bearer_auth(token).send().await.unwrap().status()
    };
    assert_eq!(call(&session["organization_id"]).await, 200);
    let mut others = session["organizations"].as_array().unwrap().iter();
    let other = others.find(|other| other["id"] != session["organization_id"]);
    assert_eq!(
        call(&other.unwrap()["id"]).await,
        404,
        "a token is one person's"
    );
}
