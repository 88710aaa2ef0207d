//! Whatever happens, in any order, with outages, lost deliveries and kills: after one comparison we and Polar agree.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use simulator::{Gateway, Product};
use uuid::Uuid;

use crate::command::{command, json as answer, run};
use crate::test_app::{Tenant, TestApp, user};

/// What a test wants of one organization.
#[derive(Clone, Debug)]
struct Wanted {
    name: String,
    owner: String,
    /// Everybody else, with the role.
    members: BTreeMap<String, &'static str>,
    deleted: bool,
}

struct World {
    app: TestApp,
    rng: StdRng,
    endpoint: String,
    organizations: BTreeMap<String, Wanted>,
    /// Address and name of each person.
    people: BTreeMap<String, (String, String)>,
    worker: Child,
    counter: u32,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ended_already = self.worker.kill();
        let _reaped_already = self.worker.wait();
    }
}

const ROLES: [&str; 3] = ["admin", "finance", "member"];

fn worker(app: &TestApp) -> Child {
    command(app, &["worker"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl World {
    async fn new(seed: u64) -> Self {
        let app = TestApp::open().await;
        let worker = worker(&app);
        let endpoint = app.webhook_url();
        Self {
            app,
            rng: StdRng::seed_from_u64(seed),
            endpoint,
            organizations: BTreeMap::new(),
            people: BTreeMap::new(),
            worker,
            counter: 0,
        }
    }

    fn number(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    fn any_living(&mut self) -> Option<String> {
        let living: Vec<&String> = self
            .organizations
            .iter()
            .filter(|(_, one)| !one.deleted)
            .map(|(id, _)| id)
            .collect();
        (!living.is_empty()).then(|| living[self.rng.random_range(0..living.len())].clone())
    }

    fn any_member(&mut self, organization: &str) -> Option<String> {
        let members: Vec<String> = self.organizations[organization]
            .members
            .keys()
            .cloned()
            .collect();
        (!members.is_empty()).then(|| members[self.rng.random_range(0..members.len())].clone())
    }

    fn person(&mut self) -> String {
        if !self.people.is_empty() && self.rng.random_bool(0.3) {
            let known: Vec<&String> = self.people.keys().collect();
            return known[self.rng.random_range(0..known.len())].clone();
        }
        let (id, number) = (user(), self.number());
        self.people.insert(
            id.clone(),
            (format!("p{number}@example.com"), format!("Person {number}")),
        );
        id
    }

    fn told(&self, person: &str) -> Value {
        let (email, name) = &self.people[person];
        json!({"id": person, "email": email, "name": name})
    }

    /// One thing that happens.
    async fn happen(&mut self) {
        let (kind, living) = (self.rng.random_range(0..100), self.any_living());
        match (kind, living) {
            (0..15, _) | (_, None) => self.create().await,
            (15..40, Some(organization)) => self.join(&organization).await,
            (40..50, Some(organization)) => self.leave(&organization).await,
            (50..60, Some(organization)) => self.rename(&organization).await,
            (60..68, Some(organization)) => self.transfer(&organization).await,
            (68..75, _) => self.rename_person().await,
            (75..78, Some(organization)) => self.delete(&organization).await,
            (78..88, Some(organization)) => self.buy(&organization).await,
            (88..92, _) => self.toggle_endpoint(),
            (92..96, _) => self.toggle_outage(),
            _ => self.kill(),
        }
    }

    async fn create(&mut self) {
        let (tenant, owner, number) = (Tenant::new(), self.person(), self.number());
        let name = format!("Org {number}");
        let change = json!({"type": "organization.created", "data": {"id": tenant.id, "name": name, "slug": format!("org-{number}"),
            "owner": self.told(&owner)}});
        self.app.tell(&[change]).await;
        self.organizations.insert(
            tenant.id,
            Wanted {
                name,
                owner,
                members: BTreeMap::new(),
                deleted: false,
            },
        );
    }

    async fn join(&mut self, organization: &str) {
        let (person, role) = (self.person(), ROLES[self.rng.random_range(0..3)]);
        if self.organizations[organization].owner == person {
            return;
        }
        let change = json!({"type": "member.added", "data": {"organization_id": organization, "role": role, "user": self.told(&person)}});
        self.app.tell(&[change]).await;
        self.organizations
            .get_mut(organization)
            .unwrap()
            .members
            .insert(person, role);
    }

    async fn leave(&mut self, organization: &str) {
        let Some(person) = self.any_member(organization) else {
            return;
        };
        let change = json!({"type": "member.removed", "data": {"organization_id": organization, "user_id": person}});
        self.app.tell(&[change]).await;
        self.organizations
            .get_mut(organization)
            .unwrap()
            .members
            .remove(&person);
    }

    async fn rename(&mut self, organization: &str) {
        let name = format!("Renamed {}", self.number());
        self.app
            .tell(&[
                json!({"type": "organization.updated", "data": {"id": organization, "name": name}}),
            ])
            .await;
        self.organizations.get_mut(organization).unwrap().name = name;
    }

    async fn transfer(&mut self, organization: &str) {
        let Some(person) = self.any_member(organization) else {
            return;
        };
        let change = json!({"type": "ownership.transferred", "data": {"organization_id": organization, "user_id": person}});
        self.app.tell(&[change]).await;
        let wanted = self.organizations.get_mut(organization).unwrap();
        wanted.members.remove(&person);
        let before = std::mem::replace(&mut wanted.owner, person);
        wanted.members.insert(before, "admin");
    }

    async fn rename_person(&mut self) {
        let (person, number) = (self.person(), self.number());
        let (email, name) = (
            format!("q{number}@example.com"),
            format!("Renamed {number}"),
        );
        self.app.tell(&[json!({"type": "user.updated", "data": {"id": person, "email": email, "name": name}})]).await;
        self.people.insert(person, (email, name));
    }

    async fn delete(&mut self, organization: &str) {
        self.app
            .tell(&[json!({"type": "organization.deleted", "data": {"id": organization}})])
            .await;
        self.organizations.get_mut(organization).unwrap().deleted = true;
    }

    /// Where there is a customer already.
    async fn buy(&mut self, organization: &str) {
        let product = if self.rng.random_bool(0.5) {
            Product::Pro
        } else {
            Product::Scale
        };
        if self
            .app
            .simulator
            .customer(organization)
            .is_none_or(|one| one.deleted_at.is_some())
        {
            return;
        }
        let _bought_before = match self.app.simulator.subscriptions(organization).is_empty() {
            true => self
                .app
                .simulator
                .purchase(organization, product)
                .await
                .map(drop),
            false => self.app.simulator.revoke(organization).await,
        };
    }

    fn toggle_endpoint(&mut self) {
        let url = self.rng.random_bool(0.5).then(|| self.endpoint.clone());
        self.app.simulator.set_webhook_url(url);
    }

    fn toggle_outage(&mut self) {
        let gateway = self.rng.random_bool(0.5).then(|| Gateway {
            status: 503,
            html: false,
            path: String::new(),
        });
        self.app.simulator.set_gateway(gateway);
    }

    fn kill(&mut self) {
        self.worker.kill().unwrap();
        self.worker.wait().unwrap();
        self.worker = worker(&self.app);
    }

    /// The end of all faults; then one comparison.
    async fn end(&mut self) {
        self.app.simulator.set_gateway(None);
        self.app
            .simulator
            .set_webhook_url(Some(self.endpoint.clone()));
        self.worker.kill().unwrap();
        self.worker.wait().unwrap();
        // Nobody waits for the lease of a worker that was killed last.
        self.app
            .until("the dead are taken over", async || {
                self.app.drain().await;
                self.app
                    .count("SELECT count(*) FROM polar_jobs.live_jobs WHERE worker IS NOT NULL")
                    .await
                    == 0
            })
            .await;
        self.app.resolve_waits().await;
        let said = run(&self.app, &["reconcile", "--repair"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        self.app.resolve_waits().await;
    }

    async fn agrees(&self, seed: u64) {
        let (code, differences) = answer(&self.app, &["reconcile"]).await;
        assert_eq!((code, &differences), (0, &json!([])), "seed {seed}");
        for (id, wanted) in &self.organizations {
            let customer = self
                .app
                .simulator
                .customer(id)
                .filter(|one| one.deleted_at.is_none());
            assert_eq!(customer.is_none(), wanted.deleted, "seed {seed}: {id}");
            let Some(customer) = customer else { continue };
            assert_eq!(
                customer.name.as_ref(),
                Some(&wanted.name),
                "seed {seed}: {id}"
            );
            let found: BTreeSet<(String, String, String, String)> = self
                .app
                .simulator
                .members(id)
                .into_iter()
                .map(|member| {
                    (
                        member.external_id.unwrap(),
                        member.email,
                        member.name.unwrap_or_default(),
                        member.role,
                    )
                })
                .collect();
            let others = wanted.members.iter().map(|(person, role)| {
                (
                    person,
                    if *role == "admin" {
                        "billing_manager"
                    } else {
                        "member"
                    },
                )
            });
            let expected = others
                .chain([(&wanted.owner, "owner")])
                .map(|(person, role)| {
                    let (email, name) = &self.people[person];
                    (person.clone(), email.clone(), name.clone(), role.to_owned())
                });
            assert_eq!(found, expected.collect(), "seed {seed}: {id}");
            let status: Option<String> = sqlx::query_scalar("SELECT subscription_status FROM polar_jobs.entitlements WHERE organization_id = $1")
                .bind(id.parse::<Uuid>().unwrap()).fetch_one(&self.app.pool).await.unwrap();
            let active = self
                .app
                .simulator
                .subscriptions(id)
                .iter()
                .any(|one| one.status == "active");
            assert_eq!(
                status.as_deref() == Some("active"),
                active,
                "seed {seed}: {id}"
            );
        }
    }
}

async fn whatever_happens(seed: u64, events: usize) {
    let mut world = World::new(seed).await;
    for _ in 0..events {
        world.happen().await;
    }
    world.end().await;
    world.agrees(seed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_150_random_events_and_one_comparison_we_and_polar_agree() {
    for seed in 1..=2 {
        whatever_happens(seed, 150).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn after_2000_random_events_and_one_comparison_we_and_polar_agree() {
    for seed in 101..=110 {
        whatever_happens(seed, 2000).await;
    }
}
