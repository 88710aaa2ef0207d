//! Assertions look at what Polar holds and at what it was asked, never at the simulator's inside.

use crate::records::{
    CustomerRecord, DeliveryRecord, EventRecord, GrantRecord, MemberRecord, OrderRecord,
    RequestRecord, SubscriptionRecord,
};
use crate::simulator::Simulator;
use crate::world::catalogue::Product;
use uuid::Uuid;

impl Simulator {
    /// The id of a seeded plan.
    #[must_use]
    pub fn product_id(&self, product: Product) -> Option<Uuid> {
        self.shared.lock().plan(product)
    }

    /// The id of a plan's benefit, by `metadata.type`.
    #[must_use]
    pub fn benefit_id(&self, product: Product, benefit_type: &str) -> Option<Uuid> {
        self.shared.lock().plan_benefit(product, benefit_type).ok()
    }

    /// The living customer with this external id.
    #[must_use]
    pub fn customer(&self, external_id: &str) -> Option<CustomerRecord> {
        let store = self.shared.lock();
        store
            .customer_by_external_id(external_id)
            .map(CustomerRecord::from)
    }

    /// All customers, deleted ones too, oldest first.
    #[must_use]
    pub fn customers(&self) -> Vec<CustomerRecord> {
        self.shared
            .lock()
            .customers
            .iter()
            .map(CustomerRecord::from)
            .collect()
    }

    /// Living members of a living customer, oldest first.
    #[must_use]
    pub fn members(&self, external_customer_id: &str) -> Vec<MemberRecord> {
        self.shared.lock().member_records(external_customer_id)
    }

    /// All grants of a customer, also withdrawn ones and those of a deleted customer.
    #[must_use]
    pub fn grants(&self, external_customer_id: &str) -> Vec<GrantRecord> {
        self.shared.lock().grant_records(external_customer_id)
    }

    /// All subscriptions of a customer, oldest first, also of a deleted one.
    #[must_use]
    pub fn subscriptions(&self, external_customer_id: &str) -> Vec<SubscriptionRecord> {
        self.shared
            .lock()
            .subscription_records(external_customer_id)
    }

    /// All orders of a customer, oldest first, also of a deleted one.
    #[must_use]
    pub fn orders(&self, external_customer_id: &str) -> Vec<OrderRecord> {
        self.shared.lock().order_records(external_customer_id)
    }

    /// All ingested events, in the order they came.
    #[must_use]
    pub fn events(&self) -> Vec<EventRecord> {
        self.shared.lock().event_records()
    }

    /// The sum of `metadata.count` over the events of one name that were sent for an external id, whoever had it then:
    /// customers that were deleted since are counted too.
    #[must_use]
    pub fn event_sum(&self, name: &str, external_customer_id: &str) -> i64 {
        self.shared.lock().event_sum(name, external_customer_id)
    }

    /// The sum of `metadata.count` over the events of one name of one customer, by Polar's id. A customer that is made
    /// anew under the same external id starts at zero.
    #[must_use]
    pub fn event_sum_of(&self, name: &str, customer: Uuid) -> i64 {
        self.shared.lock().event_sum_of(name, customer)
    }

    /// Every API request seen, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.lock().requests.clone()
    }

    /// Every delivery, in the order the events were made.
    #[must_use]
    pub fn deliveries(&self) -> Vec<DeliveryRecord> {
        self.shared
            .lock()
            .outbox
            .deliveries
            .iter()
            .map(DeliveryRecord::from)
            .collect()
    }
}
