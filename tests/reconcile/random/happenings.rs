//! What happens: in the application, at Polar, and to the machines.

use chrono::Utc;
use polar::CustomerUpdate;
use rand::RngExt;
use serde_json::{Value, json};
use simulator::{Product, SubscriptionStep};

use super::{Person, Wanted, World};

const ROLES: [&str; 3] = ["admin", "finance", "member"];
const PLANS: [Product; 3] = [Product::Pro, Product::Growth, Product::Scale];
/// No more living organizations than this, so that much happens to each.
const CROWD: usize = 30;

impl World {
    /// One thing that happens.
    pub(super) async fn happen(&mut self) {
        let living = self.with(|wanted| !wanted.deleted);
        let kind = self.rng.random_range(0..100);
        let Some(organization) = self.one_of(&living) else {
            return self.create().await;
        };
        match kind {
            0..10 if living.len() < CROWD => self.create().await,
            0..26 => self.join(&organization).await,
            26..33 => self.leave(&organization).await,
            33..38 => self.change_role(&organization).await,
            38..43 => self.rename(&organization).await,
            43..49 => self.transfer(&organization).await,
            49..54 => self.rename_person().await,
            54..57 => self.swap_addresses().await,
            57..59 => self.delete(&organization).await,
            59..61 => self.recreate().await,
            61..86 => self.pay(&organization).await,
            86..90 => self.by_hand(&organization).await,
            90..93 => self.toggle_endpoint(),
            93..96 => self.toggle_outage(),
            96..99 => self.workers.kill_one(&self.app),
            _ => self.rest().await,
        }
    }

    fn with(&self, holds: impl Fn(&Wanted) -> bool) -> Vec<String> {
        let all = self.organizations.iter();
        all.filter(|(_, wanted)| holds(wanted))
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn wanted(&mut self, organization: &str) -> &mut Wanted {
        self.organizations.get_mut(organization).unwrap()
    }

    fn member_of(&mut self, organization: &str) -> Option<String> {
        let members: Vec<String> = self.wanted(organization).members.keys().cloned().collect();
        self.one_of(&members)
    }

    /// Somebody known, or somebody new.
    fn person(&mut self) -> String {
        let known: Vec<String> = self.people.keys().cloned().collect();
        if self.rng.random_bool(0.3)
            && let Some(person) = self.one_of(&known)
        {
            return person;
        }
        let (id, number) = (self.id(), self.number());
        let person = Person {
            email: format!("p{number}@example.com"),
            name: format!("Person {number}"),
        };
        self.people.insert(id.clone(), person);
        id
    }

    fn announced(&self, person: &str) -> Value {
        let Person { email, name } = &self.people[person];
        json!({"id": person, "email": email, "name": name})
    }

    async fn create(&mut self) {
        let organization = self.id();
        self.begin(organization).await;
    }

    /// With the id of one that was deleted.
    async fn recreate(&mut self) {
        let deleted = self.with(|wanted| wanted.deleted);
        if let Some(organization) = self.one_of(&deleted) {
            self.begin(organization).await;
        }
    }

    async fn begin(&mut self, organization: String) {
        let (owner, number) = (self.person(), self.number());
        let (name, slug) = (format!("Org {number}"), format!("org-{number}"));
        let data = json!({"id": organization, "name": name, "slug": slug, "owner": self.announced(&owner)});
        self.tell("organization.created", data).await;
        let wanted = Wanted {
            name,
            slug,
            owner,
            members: Default::default(),
            deleted: false,
        };
        self.organizations.insert(organization, wanted);
    }

    async fn join(&mut self, organization: &str) {
        let (person, role) = (self.person(), self.one_of(&ROLES).unwrap());
        if self.wanted(organization).owner == person {
            return;
        }
        let data =
            json!({"organization_id": organization, "role": role, "user": self.announced(&person)});
        self.tell("member.added", data).await;
        self.wanted(organization).members.insert(person, role);
    }

    async fn leave(&mut self, organization: &str) {
        let Some(person) = self.member_of(organization) else {
            return;
        };
        let data = json!({"organization_id": organization, "user_id": person});
        self.tell("member.removed", data).await;
        self.wanted(organization).members.remove(&person);
    }

    async fn change_role(&mut self, organization: &str) {
        let (role, person) = (self.one_of(&ROLES).unwrap(), self.member_of(organization));
        let Some(person) = person else {
            return;
        };
        let data = json!({"organization_id": organization, "user_id": person, "role": role});
        self.tell("member.updated", data).await;
        self.wanted(organization).members.insert(person, role);
    }

    async fn rename(&mut self, organization: &str) {
        let number = self.number();
        let (name, slug) = (format!("Renamed {number}"), format!("renamed-{number}"));
        let data = json!({"id": organization, "name": name, "slug": slug});
        self.tell("organization.updated", data).await;
        let wanted = self.wanted(organization);
        (wanted.name, wanted.slug) = (name, slug);
    }

    async fn transfer(&mut self, organization: &str) {
        let Some(person) = self.member_of(organization) else {
            return;
        };
        let data = json!({"organization_id": organization, "user_id": person});
        self.tell("ownership.transferred", data).await;
        let wanted = self.wanted(organization);
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
        let data = json!({"id": person, "email": email, "name": name});
        self.tell("user.updated", data).await;
        self.people.insert(person, Person { email, name });
    }

    /// Two people of one organization take each other's addresses, which Polar takes once each.
    async fn swap_addresses(&mut self) {
        let known: Vec<String> = self.organizations.keys().cloned().collect();
        let Some(organization) = self.one_of(&known) else {
            return;
        };
        let owner = self.wanted(&organization).owner.clone();
        let Some(other) = self.member_of(&organization) else {
            return;
        };
        let (first, second) = (
            self.people[&owner].email.clone(),
            self.people[&other].email.clone(),
        );
        for (person, email) in [(owner, second), (other, first)] {
            self.tell("user.updated", json!({"id": person, "email": email}))
                .await;
            self.people.get_mut(&person).unwrap().email = email;
        }
    }

    async fn delete(&mut self, organization: &str) {
        let deletions = self.deletions.entry(organization.to_owned());
        deletions.or_insert_with(Utc::now);
        self.tell("organization.deleted", json!({"id": organization}))
            .await;
        self.wanted(organization).deleted = true;
    }

    /// Something about money. What the state of the subscription does not allow does not happen.
    async fn pay(&mut self, organization: &str) {
        let (what, plan) = (self.rng.random_range(0..10), self.one_of(&PLANS).unwrap());
        let polar = &self.app.simulator;
        let runs = polar
            .subscriptions(organization)
            .iter()
            .any(|one| one.ended_at.is_none());
        if !runs {
            drop(polar.purchase(organization, plan).await);
            return;
        }
        let step = match what {
            0..3 => {
                drop(polar.change_plan(organization, plan, what == 0).await);
                return;
            }
            3..6 => SubscriptionStep::Renew,
            6 => SubscriptionStep::FailPayment,
            7 => SubscriptionStep::RecoverPayment,
            8 => SubscriptionStep::CancelAtPeriodEnd,
            _ => SubscriptionStep::Revoke,
        };
        drop(polar.step(organization, step).await);
        let subscriptions = polar.subscriptions(organization).into_iter();
        for owed in subscriptions.filter(|one| one.status == "past_due") {
            let periods = self.failed_payments.entry(owed.id.to_string());
            periods.or_default().insert(owed.current_period_start);
        }
    }

    /// Somebody changes something at Polar; whether it succeeds is no matter.
    async fn by_hand(&mut self, organization: &str) {
        let (what, member, number) = (
            self.rng.random_range(0..4),
            self.member_of(organization),
            self.number(),
        );
        let polar = self.app.polar();
        match (what, member) {
            (0, _) => {
                let update = CustomerUpdate {
                    name: Some(format!("By hand {number}")),
                    ..CustomerUpdate::default()
                };
                drop(
                    polar
                        .customers()
                        .update_by_external_id(organization, &update)
                        .await,
                );
            }
            (1, _) => {
                if let Some(customer) = self.app.simulator.customer(organization) {
                    let id = polar::CustomerId(customer.id);
                    drop(
                        polar
                            .customers()
                            .delete(id, polar::Deletion::Anonymize)
                            .await,
                    );
                }
            }
            (_, Some(member)) => {
                self.contacts.removed_by_hand(organization, &member);
                drop(polar.members().delete(organization, &member).await);
            }
            (_, None) => {}
        }
    }

    /// While it is off, Polar does not even record what happens.
    fn toggle_endpoint(&mut self) {
        let on = !self.app.simulator.endpoint_enabled();
        let url = on.then(|| self.app.webhook_url());
        self.app.simulator.set_webhook_url(url);
    }

    fn toggle_outage(&mut self) {
        if self.rng.random_bool(0.5) {
            self.break_polar();
        } else {
            self.app.simulator.set_gateway(None);
        }
    }
}
