//! What happens in `dev`: the life of five organizations, by changes posted to the real ingress
//! and by Polar's signed deliveries.

use chrono::Utc;
use jobs::mail::Template;
use serde_json::json;
use simulator::{Product, Simulator};

use super::client::Application;
use super::fixtures::{Company, Fixtures, Person};
use super::watch::Watch;
use crate::schedule::{self, Timetable};

/// The scenario, with all that its steps use.
pub(super) struct Scenario<'a> {
    pub(super) fixtures: &'a Fixtures,
    pub(super) application: Application,
    pub(super) watch: &'a Watch,
    pub(super) timetable: &'a Timetable,
    /// `None`: a real Polar, where nothing is bought.
    pub(super) polar: Option<&'a Simulator>,
}

/// Quantities of the readings, counted in two windows.
pub(super) const USAGE: [[u32; 3]; 2] = [[1, 2, 3], [500, 70, 24]];

impl Scenario<'_> {
    /// Runs every step; each waits for what it builds on.
    pub(super) async fn play(&mut self) -> anyhow::Result<()> {
        self.sign_up().await?;
        self.join_and_leave().await?;
        self.use_and_cost().await?;
        self.buy().await?;
        self.leave().await?;
        self.watch.all_done(self.polar).await
    }

    async fn sign_up(&mut self) -> anyhow::Result<()> {
        say("Five organizations sign up, people join");
        let fixtures = self.fixtures;
        self.application
            .tell(
                fixtures
                    .companies()
                    .map(|company| ("organization.created", created(company))),
            )
            .await?;
        let team = [
            ("Linus", "admin"),
            ("Margaret", "finance"),
            ("Ken", "member"),
        ];
        let joined = team.map(|(name, role)| joined(&fixtures.acme, &fixtures.person(name), role));
        self.application.tell(joined).await?;
        self.application.tell([joined_globex(fixtures)]).await?;
        self.watch.jobs_done().await
    }

    async fn join_and_leave(&mut self) -> anyhow::Result<()> {
        say(
            "Somebody leaves, somebody moves up, an organization changes hands and another its name",
        );
        let (fixtures, acme) = (self.fixtures, &self.fixtures.acme);
        let id = |name| fixtures.person(name).id;
        self.application
            .tell([
                (
                    "member.removed",
                    json!({"organization_id": acme.id, "user_id": id("Margaret")}),
                ),
                (
                    "member.updated",
                    json!({"organization_id": acme.id, "user_id": id("Ken"), "role": "admin"}),
                ),
                (
                    "ownership.transferred",
                    json!({"organization_id": acme.id, "user_id": id("Linus")}),
                ),
                (
                    "user.updated",
                    json!({"id": fixtures.globex.owner.id, "name": "Grace Hopper"}),
                ),
                (
                    "organization.updated",
                    json!({"id": fixtures.globex.id, "name": "Globex International"}),
                ),
            ])
            .await?;
        self.watch.jobs_done().await
    }

    async fn use_and_cost(&mut self) -> anyhow::Result<()> {
        say("Usage and costs accrue, are counted and reported");
        let acme = self.fixtures.acme.id;
        for readings in USAGE {
            let usage = readings.map(|quantity| {
                (
                    "usage.recorded",
                    json!({"organization_id": acme, "quantity": quantity}),
                )
            });
            self.application.tell(usage).await?;
            self.start("meter_usage").await?;
        }
        let cost = json!({"organization_id": acme, "source": "compass_assistant", "vendor": "example",
                          "model": "small-1", "input_tokens": 1200, "output_tokens": 80, "cost_usd": "0.0042"});
        self.application.tell([("cost.recorded", cost)]).await?;
        self.start("report_costs").await
    }

    /// A schedule's job now, and its end: nobody wants to wait for the next tick.
    async fn start(&self, schedule: &str) -> anyhow::Result<()> {
        schedule::run_now(
            &mut *self.watch.pool.acquire().await?,
            self.timetable,
            schedule,
            Utc::now(),
        )
        .await?;
        self.watch.jobs_done().await
    }

    async fn buy(&mut self) -> anyhow::Result<()> {
        let Some(polar) = self.polar else {
            say("This is a real Polar: nothing is bought");
            return Ok(());
        };
        say("Plans are bought");
        for company in self.fixtures.companies() {
            if let Some(product) = company.buys {
                polar.purchase(&company.external_id(), product).await?;
            }
        }
        self.watch.jobs_done().await?;
        say("One is upgraded and renewed, one is past due, one is cancelled, one ends at once");
        let Fixtures {
            acme,
            globex,
            initech,
            umbrella,
            ..
        } = self.fixtures;
        polar
            .change_plan(&acme.external_id(), Product::Scale, true)
            .await?;
        polar.renew(&acme.external_id()).await?;
        polar.fail_payment(&globex.external_id()).await?;
        polar.cancel_at_period_end(&initech.external_id()).await?;
        polar.revoke(&umbrella.external_id()).await?;
        say("The one that is past due is told so, and pays");
        self.watch
            .mail_sent(globex.id, Template::SubscriptionPastDue)
            .await?;
        polar.recover_payment(&globex.external_id()).await?;
        Ok(())
    }

    async fn leave(&mut self) -> anyhow::Result<()> {
        say("An organization leaves for good");
        self.application
            .tell([(
                "organization.deleted",
                json!({"id": self.fixtures.hooli.id}),
            )])
            .await
    }
}

fn created(company: &Company) -> serde_json::Value {
    json!({"id": company.id, "name": company.name, "slug": company.slug, "owner": user(&company.owner)})
}

fn joined(company: &Company, person: &Person, role: &str) -> (&'static str, serde_json::Value) {
    (
        "member.added",
        json!({"organization_id": company.id, "user": user(person), "role": role}),
    )
}

fn joined_globex(fixtures: &Fixtures) -> (&'static str, serde_json::Value) {
    joined(&fixtures.globex, &fixtures.person("Dennis"), "member")
}

fn user(person: &Person) -> serde_json::Value {
    json!({"id": person.id, "email": person.email, "name": person.name})
}

fn say(what: &str) {
    // Nobody may be reading; the demo goes on.
    let _unread = crate::cli::output::line(&format!("· {what}"));
}
