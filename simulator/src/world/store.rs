//! One lock around all of Polar's state makes every request one transaction, which is what Polar's own are to us.

use std::collections::HashMap;

use rand::RngExt;
use rand::distr::Alphanumeric;
use uuid::Uuid;

use crate::options::Options;
use crate::records::RequestRecord;
use crate::world::clock::Clock;
use crate::world::invoices::InvoiceFault;
use crate::world::model::{
    Benefit, Checkout, Customer, Discount, Grant, Member, Moment, Order, PaymentMethod, Product,
    Session, Subscription, UsageEvent,
};
use crate::world::outbox::Outbox;
use crate::world::table::Table;

/// Everything Polar holds.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) clock: Clock,
    pub(crate) revision: u64,
    pub(crate) requests_begun: u64,
    pub(crate) organization_id: Uuid,
    pub(crate) customers: Table<Customer>,
    pub(crate) customers_by_external_id: HashMap<String, Uuid>,
    pub(crate) customers_by_email: HashMap<String, Uuid>,
    pub(crate) members: Table<Member>,
    pub(crate) members_of: HashMap<Uuid, Vec<Uuid>>,
    pub(crate) products: Table<Product>,
    pub(crate) benefits: Table<Benefit>,
    pub(crate) subscriptions: Table<Subscription>,
    pub(crate) orders: Table<Order>,
    pub(crate) grants: Table<Grant>,
    pub(crate) grants_of: HashMap<Uuid, Vec<Uuid>>,
    pub(crate) discounts: Table<Discount>,
    pub(crate) checkouts: Table<Checkout>,
    pub(crate) payment_methods: Table<PaymentMethod>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) events: Vec<UsageEvent>,
    pub(crate) events_by_external_id: HashMap<String, usize>,
    /// Events of external ids that no customer had yet, by that id.
    pub(crate) ownerless_events: HashMap<String, Vec<usize>>,
    pub(crate) outbox: Outbox,
    pub(crate) invoice_delay: std::time::Duration,
    pub(crate) invoice_fault: Option<InvoiceFault>,
    pub(crate) deletion_delay: std::time::Duration,
    pub(crate) requests: Vec<RequestRecord>,
}

impl Store {
    /// An organization without customers and catalogue.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            clock: Clock::new(options.now),
            revision: 0,
            requests_begun: 0,
            organization_id: options.organization_id,
            customers: Table::default(),
            customers_by_external_id: HashMap::new(),
            customers_by_email: HashMap::new(),
            members: Table::default(),
            members_of: HashMap::new(),
            products: Table::default(),
            benefits: Table::default(),
            subscriptions: Table::default(),
            orders: Table::default(),
            grants: Table::default(),
            grants_of: HashMap::new(),
            discounts: Table::default(),
            checkouts: Table::default(),
            payment_methods: Table::default(),
            sessions: Vec::new(),
            events: Vec::new(),
            events_by_external_id: HashMap::new(),
            ownerless_events: HashMap::new(),
            outbox: Outbox::new(options),
            invoice_delay: options.invoice_delay,
            invoice_fault: None,
            deletion_delay: options.deletion_delay,
            requests: Vec::new(),
        }
    }

    /// The simulated time.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// A fresh id, unlike any other, also of an earlier run: applications remember ids of deliveries.
    pub(crate) fn fresh_id(&self) -> Uuid {
        Uuid::new_v4()
    }

    /// Random letters and digits, for tokens and secrets.
    pub(crate) fn fresh_text(&self, length: usize) -> String {
        rand::rng()
            .sample_iter(Alphanumeric)
            .take(length)
            .map(char::from)
            .collect()
    }

    /// Marks that something changed, so that requests that raced can tell.
    pub(crate) fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// The living customer with this external id; case matters.
    pub(crate) fn customer_by_external_id(&self, external_id: &str) -> Option<&Customer> {
        self.customers_by_external_id
            .get(external_id)
            .and_then(|id| self.customers.get(*id))
    }

    /// The living customer with this id.
    pub(crate) fn living_customer(&self, id: Uuid) -> Option<&Customer> {
        self.customers
            .get(id)
            .filter(|customer| customer.deleted_at.is_none())
    }

    /// Whether a living customer has this id, the application's or our own.
    pub(crate) fn has_customer(&self, id: &str) -> bool {
        let own = || {
            Uuid::parse_str(id)
                .ok()
                .and_then(|id| self.living_customer(id))
        };
        self.customer_by_external_id(id).or_else(own).is_some()
    }

    /// Living members of a customer, oldest first.
    pub(crate) fn living_members(&self, customer_id: Uuid) -> impl Iterator<Item = &Member> {
        let ids = self.members_of.get(&customer_id).into_iter().flatten();
        ids.filter_map(|id| self.members.get(*id))
            .filter(|member| member.deleted_revision.is_none())
    }

    /// The owner of a customer; the last one, living or not, once the customer is deleted.
    pub(crate) fn owner_of(&self, customer_id: Uuid) -> Option<&Member> {
        let living = self
            .living_members(customer_id)
            .find(|member| member.role == "owner");
        living.or_else(|| {
            let ids = self.members_of.get(&customer_id)?;
            ids.iter()
                .rev()
                .filter_map(|id| self.members.get(*id))
                .find(|member| member.role == "owner")
        })
    }

    /// Grants a customer ever held, oldest first.
    pub(crate) fn grants_of_customer(&self, customer_id: Uuid) -> impl Iterator<Item = &Grant> {
        self.grants_of
            .get(&customer_id)
            .into_iter()
            .flatten()
            .filter_map(|id| self.grants.get(*id))
    }
}
