//! `simulator` as a process, and what another shell makes happen in it.

use serde_json::{Value, json};

use super::support::{Running, Said, get, line_with, run, start};

/// A simulator in a process of its own, with one customer.
struct Polar {
    _process: Running,
    url: String,
}

const ORGANIZATION: &str = "1f0c7c1e-6a5b-4c0e-9d3a-0f6f2b1f7a11";

impl Polar {
    async fn start() -> Self {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let mut process = start(&[], &["simulator", "--port", "0"]);
        let line = line_with(process.stdout.take().unwrap(), "POLAR_API_URL=");
        let url = line.strip_prefix("POLAR_API_URL=").unwrap().to_owned();
        let polar = Self {
            _process: process,
            url,
        };
        let owner = json!({"email": "ada@example.com", "name": "<Ada>", "external_id": "ada"});
        let customer = json!({"type": "team", "name": "<b>Acme</b>", "external_id": ORGANIZATION, "owner": owner});
        assert_eq!(polar.call("POST", "/v1/customers/", &customer).await, 201);
        polar
    }

    /// The status of a call to Polar's API.
    async fn call(&self, method: &str, path: &str, body: &Value) -> u16 {
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .build()
            .unwrap();
        let request = client
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .bearer_auth("polar_oat_simulator")
            .json(body);
        request.send().await.unwrap().status().as_u16()
    }

    async fn read_customer(&self) -> u16 {
        self.call(
            "GET",
            &format!("/v1/customers/external/{ORGANIZATION}"),
            &Value::Null,
        )
        .await
    }

    fn act(&self, arguments: &[&str]) -> Said {
        let mut all = vec!["simulator"];
        all.extend(arguments);
        run(&[("POLAR_API_URL", &self.url)], &all)
    }

    fn trigger(&self, occasion: &str, further: &[&str]) -> Said {
        let mut all = vec!["trigger", occasion, "--organization", ORGANIZATION];
        all.extend(further);
        self.act(&all)
    }

    fn customer(&self) -> Value {
        let said = self.act(&["state", "--format", "json"]);
        let mut state: Value = serde_json::from_str(&said.out).unwrap();
        state["customers"][0].take()
    }
}

#[tokio::test]
async fn what_people_and_polar_do_is_a_command_each() {
    let polar = Polar::start().await;
    let bought = polar.trigger("purchase", &["--product", "growth"]);
    assert_eq!(bought.code, Some(0), "{}", bought.err);
    for (occasion, status) in [
        ("renew", "active"),
        ("cancel", "active"),
        ("uncancel", "active"),
        ("past-due", "past_due"),
        ("recover", "active"),
        ("pause", "paused"),
        ("resume", "active"),
    ] {
        let said = polar.trigger(occasion, &[]);
        assert_eq!(said.code, Some(0), "{occasion}: {}", said.err);
        assert_eq!(
            polar.customer()["subscriptions"][0]["status"],
            status,
            "{occasion}"
        );
    }
    let fields = ["--type", "transaction_fee", "--set", "fee_percent=300"];
    assert_eq!(polar.trigger("update-benefit", &fields).code, Some(0));
    let changed = polar.trigger("change-plan", &["--product", "scale"]);
    assert_eq!(changed.code, Some(0), "{}", changed.err);
    assert_eq!(
        polar.customer()["subscriptions"][0]["product"]["name"],
        "Scale"
    );
    assert_eq!(polar.trigger("revoke", &[]).code, Some(0));
    assert_eq!(polar.customer()["subscriptions"][0]["status"], "canceled");

    let by_name = ["trigger", "purchase", "--organization", "<b>Acme</b>"];
    let said = polar.act(&by_name);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(polar.trigger("revoke", &[]).code, Some(0));
    let nobody = polar.act(&["trigger", "purchase", "--organization", "Acm"]);
    assert!(nobody.err.contains("simulator state"), "{}", nobody.err);

    let refused = polar.trigger("renew", &[]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("no running subscription"),
        "{}",
        refused.err
    );
}

#[tokio::test]
async fn an_edited_benefit_keeps_the_fields_that_were_not_named() {
    let polar = Polar::start().await;
    assert_eq!(
        polar.trigger("purchase", &["--product", "pro"]).code,
        Some(0)
    );
    let fields = ["--type", "transaction_fee", "--set", "fee_percent=300"];
    assert_eq!(polar.trigger("update-benefit", &fields).code, Some(0));
    let grants = polar.customer()["grants"].take();
    let grants = grants.as_array().unwrap().iter();
    let fee = grants
        .map(|grant| grant["benefit"]["metadata"].clone())
        .find(|one| one["type"] == "transaction_fee");
    assert_eq!(
        fee.unwrap(),
        json!({"type": "transaction_fee", "fee_percent": 300, "fee_fixed": 35, "subscription_fee_percent": 0})
    );
    let none = polar.trigger("update-benefit", &["--type", "sso", "--set", "a=b"]);
    assert!(
        none.err.contains("holds no benefit of type `sso`"),
        "{}",
        none.err
    );
}

#[tokio::test]
async fn calls_fail_for_whom_and_for_how_long_was_asked_for() {
    let polar = Polar::start().await;
    for (arguments, status) in [
        (&["fail", "--customer", ORGANIZATION][..], 500),
        (
            &[
                "fail",
                "--customer",
                ORGANIZATION,
                "--status",
                "503",
                "--for",
                "2m",
            ],
            503,
        ),
        (
            &["fail", "--customer", "somebody-else", "--status", "400"],
            503,
        ),
        (&["fail", "--stop"], 200),
        (&["fail", "--status", "502"], 502),
        (&["fail", "--status", "502", "--for", "0s"], 200),
    ] {
        let said = polar.act(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
        assert_eq!(polar.read_customer().await, status, "{arguments:?}");
    }
    assert_eq!(polar.act(&["fail", "--status", "200"]).code, Some(2));
    let nobody = polar.act(&["fail", "--customer", "somebody-else"]);
    assert!(
        nobody.out.contains("no customer has this id now"),
        "{}",
        nobody.out
    );
    let known = polar.act(&["fail", "--customer", ORGANIZATION]);
    assert!(!known.out.contains("no customer"), "{}", known.out);
}

#[tokio::test]
async fn a_revoked_token_is_refused_until_it_is_restored() {
    let polar = Polar::start().await;
    assert_eq!(polar.act(&["revoke-token"]).code, Some(0));
    assert_eq!(polar.read_customer().await, 401);
    assert_eq!(polar.act(&["revoke-token", "--restore"]).code, Some(0));
    assert_eq!(polar.read_customer().await, 200);
}

#[tokio::test]
async fn the_clock_is_read_and_moved_and_a_trial_ends_on_the_way() {
    let polar = Polar::start().await;
    assert_eq!(
        polar.trigger("purchase", &["--start", "trial"]).code,
        Some(0)
    );
    assert_eq!(polar.customer()["subscriptions"][0]["status"], "trialing");
    let clock = |arguments: &[&str]| {
        let said = polar.act(arguments);
        assert_eq!(said.code, Some(0), "{}", said.err);
        chrono::DateTime::parse_from_rfc3339(said.out.trim()).unwrap()
    };
    let before = clock(&["clock"]);
    let after = clock(&["clock", "+20d"]);
    assert!((after - before).num_days() == 20, "{before} {after}");
    assert_eq!(polar.customer()["subscriptions"][0]["status"], "active");
    assert_eq!(polar.act(&["clock", "tomorrow"]).code, Some(2));
}

#[tokio::test]
async fn people_find_a_page_at_its_address_and_no_name_becomes_markup() {
    let polar = Polar::start().await;
    let address = polar.url.strip_prefix("http://").unwrap();
    let page = get(address, "/");
    assert!(
        page.contains("text/html") && page.contains("/simulator/purchase"),
        "{page}"
    );
    assert!(
        page.contains("&lt;b&gt;Acme&lt;/b&gt;") && !page.contains("<b>Acme"),
        "{page}"
    );
    let table = polar.act(&["state"]);
    assert!(table.out.contains(ORGANIZATION), "{}", table.out);
}

#[test]
fn help_names_the_routes_and_a_missing_simulator_is_named_with_its_remedy() {
    let help = run(&[], &["simulator", "--help"]);
    assert_eq!(help.code, Some(0));
    for words in ["/simulator/purchase", "trigger", "revoke-token", "--port"] {
        assert!(help.out.contains(words), "{words}: {}", help.out);
    }
    let nobody = run(&[], &["simulator", "state", "--url", "http://127.0.0.1:1"]);
    assert_eq!(nobody.code, Some(1));
    assert!(
        nobody.err.contains("127.0.0.1:1") && nobody.err.contains("polar-jobs simulator"),
        "{}",
        nobody.err
    );
}
