//! The fixtures of the demo scenario: five organizations and their people, new in each run.

use simulator::Product;
use uuid::Uuid;

use super::expected::{self, Expected};

/// Everybody's ids follow from the run, so a run on old data meets nobody from before.
pub(super) struct Fixtures {
    run: Uuid,
    /// Buys a small plan, upgrades, and changes hands.
    pub(super) acme: Company,
    /// Buys a plan, falls behind with paying, and makes it good.
    pub(super) globex: Company,
    /// Buys a plan and cancels it for the period's end.
    pub(super) initech: Company,
    /// Buys a plan, loses it at once, and stays as a free customer.
    pub(super) umbrella: Company,
    /// Signs up and leaves for good.
    pub(super) hooli: Company,
}

/// An organization.
pub(super) struct Company {
    pub(super) id: Uuid,
    pub(super) name: &'static str,
    pub(super) slug: String,
    pub(super) owner: Person,
    /// What it buys first; `None`: nothing.
    pub(super) buys: Option<Product>,
    /// What should have come of it at the end.
    pub(super) expected: Expected,
}

/// A user.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) id: Uuid,
    pub(super) name: &'static str,
    pub(super) email: String,
}

impl Fixtures {
    pub(super) fn of_run(run: Uuid) -> Self {
        let company = |name: &'static str, owner, buys, expected| Company {
            id: Uuid::new_v5(&run, name.as_bytes()),
            name,
            slug: format!("{}-{}", name.to_lowercase(), short(run)),
            owner: person(run, owner),
            buys,
            expected,
        };
        Self {
            run,
            acme: company("Acme", "Ada", Some(Product::Pro), expected::ACME),
            globex: company("Globex", "Grace", Some(Product::Growth), expected::GLOBEX),
            initech: company("Initech", "Bill", Some(Product::Pro), expected::INITECH),
            umbrella: company(
                "Umbrella",
                "Alice",
                Some(Product::Scale),
                expected::UMBRELLA,
            ),
            hooli: company("Hooli", "Gavin", None, expected::HOOLI),
        }
    }

    pub(super) fn person(&self, name: &'static str) -> Person {
        person(self.run, name)
    }

    /// What all addresses of this run end in.
    pub(super) fn host(&self) -> String {
        host(self.run)
    }

    pub(super) fn run(&self) -> Uuid {
        self.run
    }

    pub(super) fn companies(&self) -> [&Company; 5] {
        [
            &self.acme,
            &self.globex,
            &self.initech,
            &self.umbrella,
            &self.hooli,
        ]
    }
}

impl Company {
    /// What Polar knows it by.
    pub(super) fn external_id(&self) -> String {
        self.id.to_string()
    }
}

fn person(run: Uuid, name: &'static str) -> Person {
    let email = format!("{}{}", name.to_lowercase(), host(run));
    Person {
        id: Uuid::new_v5(&run, format!("person {name}").as_bytes()),
        name,
        email,
    }
}

fn short(run: Uuid) -> String {
    run.simple().to_string()[..8].to_owned()
}

fn host(run: Uuid) -> String {
    format!(".{}@example.com", short(run))
}
