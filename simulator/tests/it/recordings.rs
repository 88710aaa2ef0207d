//! The simulator is worth what it shares with the real server. Every recorded exchange that concerns our operations
//! is replayed against it: status, headers that matter, error name, every fault of a 422, and the shape of the body.

use crate::common;
use crate::common::{Answer, Api, start};
use crate::description::Description;
use crate::replay::{Ids, faults, recording, shape_differences};
use crate::script::SCRIPT;
use crate::values::value_differences;
use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::{Options, OrderStatus, Product, Simulator, SubscriptionStep};

const SECOND: &str = "11111111-aaaa-4aaa-8aaa-000000000002";

struct Replay {
    simulator: Simulator,
    api: Api,
    ids: Ids,
    /// The tokens of the sessions that were made, by what their recordings call the member.
    sessions: Vec<(String, String)>,
    description: Description,
}

async fn open() -> Replay {
    let options = Options {
        now: Some("2026-11-21T00:48:20Z".parse().unwrap()),
        organization_id: "ce4be18a-a083-4653-b8fe-753768b24bae".parse().unwrap(),
        rate_limit_per_minute: 1_000_000,
        catalogue: false,
        ..Options::default()
    };
    let simulator = start(options).await;
    simulator.add_token("polar_oat_narrow", &["customers:read"]);
    simulator.add_foreign_token("polar_oat_foreign");
    let api = Api::of(&simulator);
    Replay {
        simulator,
        api,
        ids: Ids::default(),
        sessions: Vec::new(),
        description: Description::load(),
    }
}

#[tokio::test]
async fn every_recorded_exchange_of_ours_is_answered_as_recorded() {
    let mut replay = open().await;
    let mut failures = Vec::new();
    for step in SCRIPT {
        match step.strip_prefix('!') {
            Some(setup) => replay.set_up(setup).await,
            None => failures.extend(replay.play(step).await),
        }
    }
    assert!(
        failures.is_empty(),
        "{} differences:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Copied recordings that other tests look at; the rest are deliveries, verified in `deliveries.rs`.
const ELSEWHERE: [&str; 13] = [
    "events-batch-1000",
    "events-batch-1000-repeat",
    "events-batch-5000",
    "events-body-over-10mib",
    "race-counts",
    "ratelimit-429-invalid-token",
    "ratelimit-429-other-token-same-org",
    "ratelimit-429-other-token-same-org-second",
    "ratelimit-429-post-ingest",
    "ratelimit-429-valid-token",
    "webhook-deliveries-list-failed",
    "webhook-deliveries-list-window",
    "webhook-redeliver",
];

#[test]
fn no_recording_lies_about_unused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".json") else {
            continue;
        };
        let used = SCRIPT.contains(&name) || ELSEWHERE.contains(&name);
        assert!(
            used || recording(name).get("body_text").is_some(),
            "{name} is in no test"
        );
    }
    let mut names: Vec<&&str> = SCRIPT
        .iter()
        .filter(|step| !step.starts_with('!'))
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(count, names.len(), "a recording is played twice");
}

impl Replay {
    async fn play(&mut self, name: &str) -> Vec<String> {
        let recording = recording(name);
        let answer = self.ask(name, &recording["request"]).await;
        let recorded = &recording["response"];
        let mut differences = Vec::new();
        if recorded["status"] != answer.status {
            differences.push(format!(
                "status {} instead of {}: {}",
                answer.status, recorded["status"], answer.body
            ));
        } else {
            differences.extend(shape_differences(&recorded["body"], &answer.body, ""));
            let values = value_differences(&recorded["body"], &answer.body, &self.ids, "");
            let values = values.into_iter().filter(|found| !found.is_excused(name));
            differences.extend(values.map(|found| found.to_string()));
        }
        if recorded["body"]["error"] != answer.body["error"] {
            differences.push(format!(
                "error {} instead of {}",
                answer.body["error"], recorded["body"]["error"]
            ));
        }
        let undeliverable = name == "customers-create-undeliverable-email";
        let (theirs, ours) = (
            faults(&recorded["body"], &self.ids),
            faults(&answer.body, &self.ids),
        );
        if theirs != ours && !undeliverable {
            differences.push(format!("faults {ours:#?} instead of {theirs:#?}"));
        }
        differences.extend(header_differences(&recorded["headers"], &answer));
        let request = &recording["request"];
        let (method, path) = (
            request["method"].as_str().unwrap(),
            request["path"].as_str().unwrap(),
        );
        if answer.status < 300 {
            let objections = self
                .description
                .answer(method, path, answer.status, &answer.body);
            differences.extend(objections.into_iter().flatten());
        }
        if let Some(role) = name.strip_prefix("customer-sessions-") {
            let token = answer.body["token"].as_str().unwrap_or_default();
            self.sessions.push((role.to_owned(), token.to_owned()));
        }
        if answer.status < 300 {
            self.ids.learn(&recorded["body"], &answer.body);
        }
        differences
            .into_iter()
            .map(|difference| format!("{name}: {difference}"))
            .collect()
    }

    fn authorization(&self, name: &str, recorded: &str) -> String {
        let plain = name.ends_with("-member").then_some("plain-member");
        let manager = name
            .ends_with("-billing-manager")
            .then_some("billing-manager");
        let role = plain.or(manager).unwrap_or("owner");
        let session = self.sessions.iter().find(|(of, _)| of == role);
        let session = session.map_or("", |(_, token)| token);
        token(name, recorded).replace("polar_mst_redacted", session)
    }

    async fn ask(&self, name: &str, request: &Value) -> Answer {
        let path = self.ids.ours(request["path"].as_str().unwrap());
        let url = format!("{}{path}", self.api.base);
        let mut call = self
            .api
            .client
            .request(request["method"].as_str().unwrap().parse().unwrap(), url);
        for (header, value) in request["headers"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            let value = if header == "Authorization" {
                self.authorization(name, value)
            } else {
                value.to_owned()
            };
            call = call.header(header, value);
        }
        call = match &request["body"] {
            Value::Null => call,
            Value::String(raw) => call.body(raw.clone()),
            body => {
                let text = self.ids.ours(&body.to_string());
                // This was recorded where no name could be looked up; here one domain cannot be.
                let dead = name == "customers-create-undeliverable-email";
                let text = if dead {
                    text.replace("@example.com", "@undeliverable.example")
                } else {
                    text
                };
                call.header("content-type", "application/json").body(text)
            }
        };
        common::read(call.send().await.unwrap()).await.unwrap()
    }

    async fn set_up(&mut self, step: &str) {
        match step {
            "quiet" => self.enable_endpoint(false).await,
            "doomed" => {
                let body = recording("customers-recreate-after-delete")["request"]["body"].clone();
                let made = self.api.post("/v1/customers/", body).await;
                self.ids.insert(
                    "ef42d2fb-fb9c-443e-8d00-7104def86653",
                    made.body["id"].as_str().unwrap(),
                );
            }
            "events" => {
                let wanted = "2026-11-21T00:55:32.500Z"
                    .parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap();
                self.simulator
                    .advance(wanted - self.simulator.clock())
                    .await;
            }
            "orders" => self.make_orders().await,
            "invoice" => self.simulator.advance(TimeDelta::seconds(2)).await,
            "reenabled" => self.enable_endpoint(true).await,
            "renamed" => self.rename().await,
            "states" => self.make_states().await,
            "uncancelled" => {
                let id = self.ids.ours("497c24ea-5346-4cc0-a2c7-c857ef5c7c7f");
                let uncancel = json!({"cancel_at_period_end": false});
                assert_eq!(
                    self.api
                        .patch(&format!("/v1/subscriptions/{id}"), uncancel)
                        .await
                        .status,
                    200
                );
                self.simulator
                    .set_billing_details(SECOND, Value::Null, false)
                    .await
                    .unwrap();
            }
            "discount" => {
                let wanted = json!({"name": "D2", "type": "percentage", "basis_points": 1000, "duration": "forever"});
                let made = self.api.post("/v1/discounts/", wanted).await;
                self.ids.insert(
                    "ee89e0dc-634b-4685-b799-f6a805bcde79",
                    made.body["id"].as_str().unwrap(),
                );
            }
            "departures" => {
                for last in ["8", "9"] {
                    let id = format!("11111111-aaaa-4aaa-8aaa-00000000000{last}");
                    assert_eq!(self.api.create_customer(&id).await.status, 201);
                    self.simulator.purchase(&id, Product::Free).await.unwrap();
                }
            }
            unknown => panic!("no such step: {unknown}"),
        }
    }

    async fn buy(&mut self, recorded: &str) {
        let id = self.simulator.purchase(SECOND, Product::Pro).await.unwrap();
        self.ids.insert(recorded, id);
    }

    async fn enable_endpoint(&self, enabled: bool) {
        let id = self.ids.ours("42d826f3-29e0-48bc-9e59-0ae6de106721");
        let path = format!("/v1/webhooks/endpoints/{id}");
        let answer = self.api.patch(&path, json!({"enabled": enabled})).await;
        assert_eq!(answer.status, 200);
    }

    /// What the run did besides its recordings before it came to the last of them.
    async fn rename(&self) {
        let name = json!({"name": "While disabled"});
        let path = format!("/v1/customers/external/{SECOND}");
        assert_eq!(self.api.patch(&path, name).await.status, 200);
        let mut fee = recording("benefits-patch-metadata")["request"]["body"].clone();
        fee["metadata"]["fee_percent"] = json!(382);
        let id = self.ids.ours("627cefd4-292d-44de-ac79-1a8986f68c98");
        let path = format!("/v1/benefits/{id}");
        assert_eq!(self.api.patch(&path, fee).await.status, 200);
    }

    /// Five orders of one subscription, oldest first; the third without an address.
    async fn make_orders(&mut self) {
        let address =
            recording("orders-list-customer")["response"]["body"]["items"][0]["billing_address"]
                .clone();
        self.bill_to(address.clone()).await;
        self.buy("b2e8100f-9c37-4077-8865-33c8be1b9d31").await;
        self.simulator.renew(SECOND).await.unwrap();
        self.bill_to(Value::Null).await;
        self.simulator.renew(SECOND).await.unwrap();
        self.bill_to(address).await;
        self.simulator.renew(SECOND).await.unwrap();
        self.simulator.renew(SECOND).await.unwrap();
        self.bill_to(Value::Null).await;
        let orders = [
            (OrderStatus::Paid, "61cfde07-1203-48e9-a273-5103c06bd12c"),
            (OrderStatus::Pending, "bb6fdada-b57c-4a99-8aa4-7b1650bd4d5a"),
            (OrderStatus::Paid, "45ba441e-eb66-4847-a464-541946c33997"),
            (OrderStatus::Draft, "8117072d-d6f1-4b22-82db-9ef8b3f20b80"),
            (OrderStatus::Void, "f210329b-ecc7-47da-8b0c-9411148de79e"),
        ];
        for (order, (status, recorded)) in self.simulator.orders(SECOND).iter().zip(orders) {
            let set = self.simulator.set_order_status(order.id, status).await;
            set.unwrap();
            self.ids.insert(recorded, order.id);
        }
    }

    async fn bill_to(&self, address: Value) {
        let set = self.simulator.set_billing_details(SECOND, address, true);
        set.await.unwrap();
    }

    async fn make_states(&mut self) {
        self.buy("81aa0c53-5f1e-4899-85d3-7fedc81355a9").await;
        self.simulator.fail_payment(SECOND).await.unwrap();
        self.buy("d4a13d23-d02f-459d-bc56-daf0b68dedbf").await;
        self.simulator.pause(SECOND).await.unwrap();
        self.buy("6f1efe3f-e3a4-4758-b82b-94f7a3915a91").await;
        self.simulator.fail_payment(SECOND).await.unwrap();
        self.simulator
            .step(SECOND, SubscriptionStep::ExhaustDunning)
            .await
            .unwrap();
        self.buy("497c24ea-5346-4cc0-a2c7-c857ef5c7c7f").await;
        self.bill_to(Value::Null).await;
    }
}

/// The recorded tokens are blacked out; the name says which kind it was.
fn token(name: &str, recorded: &str) -> String {
    let kind = match name {
        "auth-bad-token" | "auth-expired-token" => "polar_oat_unknown",
        "auth-missing-scope" | "auth-missing-scope-write" => "polar_oat_narrow",
        "customers-get-other-org-token" => "polar_oat_foreign",
        _ => "polar_oat_simulator",
    };
    recorded.replace("polar_oat_redacted", kind)
}

fn header_differences(recorded: &Value, answer: &Answer) -> Vec<String> {
    let ours = |name: &str| {
        answer
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let mut differences = Vec::new();
    for name in [
        "www-authenticate",
        "allow",
        "retry-after",
        "polar-version",
        "content-type",
        "cache-control",
    ] {
        // A 204 has no content to type; the recorded header there is the framework's.
        let recorded = recorded[name].as_str().map(str::to_owned);
        if recorded != ours(name) && answer.status != 204 {
            differences.push(format!("{name} {:?} instead of {recorded:?}", ours(name)));
        }
    }
    let path = |url: &str| url.splitn(4, '/').nth(3).map(str::to_owned);
    if let Some(location) = recorded["location"].as_str() {
        let same = ours("location").as_deref().and_then(path) == path(location);
        if !same {
            differences.push(format!(
                "location {:?} instead of {location}",
                ours("location")
            ));
        }
    }
    differences
}
