//! Who manages whose billing, as far as that is certain at a moment.
//!
//! A change that was told takes effect at Polar some time later, so from outside there is a time in which nobody knows
//! whom a mail will find. It begins when the change was told, and ends when our tables say that Polar has it: outside of
//! these times everybody's role and address are known, and whom a mail must find, and whom it must not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::World;

/// An organization and a user.
type Pair = (String, String);

#[derive(Default)]
pub(super) struct Contacts {
    /// Who was owner or admin at any time, and since when.
    managers: BTreeMap<Pair, DateTime<Utc>>,
    /// Everybody's addresses of any time, and since when.
    addresses: BTreeMap<String, BTreeMap<String, DateTime<Utc>>>,
    /// Times in which it is certain what Polar had, oldest first.
    held: BTreeMap<Pair, Vec<Held>>,
    /// Whom somebody removed at Polar: our tables do not know before they are compared.
    removed_by_hand: BTreeSet<Pair>,
}

/// What Polar had of a member from one moment to another.
#[derive(Debug)]
struct Held {
    version: i64,
    customer: Uuid,
    email: String,
    manages: bool,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// A look at Polar for the contacts of a customer.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) organization: &'a str,
    pub(super) customer: Uuid,
    /// The customer was deleted while this look was under way.
    pub(super) interrupted: bool,
    pub(super) from: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

/// Somebody whom a mail may find.
struct Contact {
    user: String,
    addresses: BTreeSet<String>,
    /// It does find this one.
    is_certain: bool,
}

type Row = (
    String,
    String,
    Uuid,
    i64,
    String,
    bool,
    DateTime<Utc>,
    DateTime<Utc>,
);

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user,
            addresses,
            is_certain,
        } = self;
        let certain = if *is_certain { "certainly" } else { "perhaps" };
        write!(f, "{certain} {user} at {addresses:?}")
    }
}

impl World {
    /// Takes down what became of something that began to happen at `began`.
    pub(super) async fn note_contacts(&mut self, began: DateTime<Utc>) {
        let contacts = &mut self.contacts;
        for (organization, wanted) in self.organizations.iter().filter(|(_, one)| !one.deleted) {
            let admins = wanted.members.iter().filter(|(_, role)| **role == "admin");
            let admins = admins.map(|(user, _)| user);
            for user in admins.chain([&wanted.owner]) {
                let pair = (organization.clone(), user.clone());
                contacts.managers.entry(pair).or_insert(began);
            }
        }
        for (user, person) in &self.people {
            let addresses = contacts.addresses.entry(user.clone()).or_default();
            addresses.entry(person.email.clone()).or_insert(began);
        }
        contacts.note_held(&self.app.pool).await;
    }
}

impl Contacts {
    pub(super) fn removed_by_hand(&mut self, organization: &str, user: &str) {
        let pair = (organization.to_owned(), user.to_owned());
        self.removed_by_hand.insert(pair);
    }

    async fn note_held(&mut self, pool: &PgPool) {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT m.organization_id::text, m.user_id::text, o.polar_customer_id, v.version, p.email,
                    m.removed_at IS NULL AND m.role IN ('owner', 'admin'), m.synced_at, now()
               FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
               JOIN polar_jobs.organizations o ON o.id = m.organization_id,
                    polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event) AS v (version)
              WHERE o.polar_customer_id IS NOT NULL AND o.deleted_at IS NULL AND o.customer_lost_at IS NULL
                AND p.email IS NOT NULL AND m.synced_event >= v.version",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        for (organization, user, customer, version, email, manages, from, now) in rows {
            let held = self.held.entry((organization, user)).or_default();
            let goes_on = held.last_mut().filter(|last| {
                (last.version, last.customer, last.from) == (version, customer, from)
            });
            match goes_on {
                Some(last) => last.until = now,
                None => held.push(Held {
                    version,
                    customer,
                    email,
                    manages,
                    from,
                    until: now,
                }),
            }
        }
    }

    /// Holds the recipients of a mail against those whom the look before it could find. Returns how many of them it
    /// had to find.
    pub(super) fn check(&self, look: &Look<'_>, recipients: &[String]) -> Result<usize, String> {
        if recipients.is_empty() {
            return Err("nobody got it".to_owned());
        }
        let contacts = self.contacts(look);
        let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
        for recipient in recipients {
            if !assign(recipient, &contacts, &mut owners, &mut BTreeSet::new()) {
                return Err(format!(
                    "{recipients:?} are not addresses of as many of {contacts:#?}; of {recipient} is known {:#?}",
                    self.known_of(look.organization, recipient)
                ));
            }
        }
        let missed = contacts
            .iter()
            .find(|one| one.is_certain && one.addresses.is_disjoint(&set(recipients)));
        match missed {
            Some(missed) => Err(format!("{missed:?} got none, only {recipients:?}")),
            None => Ok(contacts.iter().filter(|one| one.is_certain).count()),
        }
    }

    /// Whoever had this address at any time: since when they manage the billing, and what Polar had of them.
    fn known_of(&self, organization: &str, address: &str) -> Vec<String> {
        let of_organization = self.held.iter().filter(|((of, user), _)| {
            let addresses = self.addresses.get(user);
            of == organization && addresses.is_some_and(|all| all.contains_key(address))
        });
        let in_words = of_organization.map(|(pair, held)| {
            let since = self.managers.get(pair);
            format!("{}: manages since {since:?}, held {held:?}", pair.1)
        });
        in_words.collect()
    }

    /// Everybody whom this look could find.
    fn contacts(&self, look: &Look<'_>) -> Vec<Contact> {
        let of_organization = self.managers.iter().filter(|((organization, _), since)| {
            organization == look.organization && **since <= look.until
        });
        of_organization
            .filter_map(|(pair, _)| match self.held_during(pair, look) {
                Some(held) if !held.manages => None,
                Some(held) => Some(Contact {
                    user: pair.1.clone(),
                    addresses: BTreeSet::from([held.email.clone()]),
                    is_certain: !look.interrupted && !self.removed_by_hand.contains(pair),
                }),
                None => Some(Contact {
                    user: pair.1.clone(),
                    addresses: self.addresses_of(&pair.1, look.until),
                    is_certain: false,
                }),
            })
            .collect()
    }

    fn addresses_of(&self, user: &str, until: DateTime<Utc>) -> BTreeSet<String> {
        let all = self.addresses.get(user).into_iter().flatten();
        all.filter(|(_, since)| **since <= until)
            .map(|(address, _)| address.clone())
            .collect()
    }

    fn held_during(&self, pair: &Pair, look: &Look<'_>) -> Option<&Held> {
        let held = self.held.get(pair).into_iter().flatten();
        held.filter(|held| held.customer == look.customer)
            .find(|held| held.from <= look.from && look.until <= held.until)
    }
}

fn set(recipients: &[String]) -> BTreeSet<String> {
    recipients.iter().cloned().collect()
}

/// Finds a contact of its own for an address, where need be by finding another one for an address that has it.
fn assign<'a>(
    address: &'a str,
    contacts: &[Contact],
    owners: &mut BTreeMap<&'a str, usize>,
    tried: &mut BTreeSet<usize>,
) -> bool {
    for (number, contact) in contacts.iter().enumerate() {
        if !contact.addresses.contains(address) || !tried.insert(number) {
            continue;
        }
        let taken = owners.iter().find(|(_, owner)| **owner == number);
        let taken = taken.map(|(other, _)| *other);
        if taken.is_none_or(|other| assign(other, contacts, owners, tried)) {
            owners.insert(address, number);
            return true;
        }
    }
    false
}
