//! Upgrades revoke and create grants in any order, and two subscriptions give two grants of one benefit.

use uuid::Uuid;

use crate::world::model::{Grant, Metadata};
use crate::world::outbox::Payload;
use crate::world::store::Store;

impl Store {
    fn held_by(&self, subscription_id: Uuid) -> Vec<(Uuid, Uuid)> {
        let customer = self
            .subscriptions
            .get(subscription_id)
            .map_or(Uuid::nil(), |row| row.customer_id);
        let of_subscription = self
            .grants_of_customer(customer)
            .filter(|row| row.subscription_id == subscription_id);
        of_subscription
            .filter(|row| row.granted_at.is_some())
            .map(|row| (row.id, row.benefit_id))
            .collect()
    }

    fn benefits_of(&self, subscription_id: Uuid) -> Vec<Uuid> {
        let product = self
            .subscriptions
            .get(subscription_id)
            .and_then(|row| self.products.get(row.product_id));
        product.map_or(Vec::new(), |product| product.benefits.clone())
    }

    /// Grants whatever the subscription's product offers and the customer does not hold through it.
    pub(crate) fn grant_missing(&mut self, subscription_id: Uuid) {
        let held = self.held_by(subscription_id);
        for benefit in self.benefits_of(subscription_id) {
            if !held.iter().any(|(_, id)| *id == benefit) {
                self.grant(subscription_id, benefit);
            }
        }
    }

    fn grant(&mut self, subscription_id: Uuid, benefit_id: Uuid) {
        let (id, now) = (self.fresh_id(), self.now());
        let Some(customer_id) = self
            .subscriptions
            .get(subscription_id)
            .map(|row| row.customer_id)
        else {
            return;
        };
        let row = Grant {
            id,
            created_at: now,
            modified_at: None,
            granted_at: Some(now),
            revoked_at: None,
            subscription_id,
            customer_id,
            member_id: self.owner_of(customer_id).map(|member| member.id),
            benefit_id,
            properties: Metadata::new(),
        };
        self.grants.insert(row);
        self.grants_of.entry(customer_id).or_default().push(id);
        self.announce_grant(id, "benefit_grant.created");
    }

    /// Withdraws everything held through a subscription, but the benefits in `but`.
    pub(crate) fn revoke_grants(&mut self, subscription_id: Uuid, but: &[Uuid]) {
        for (id, benefit) in self.held_by(subscription_id) {
            if !but.contains(&benefit) {
                self.revoke_grant(id);
            }
        }
    }

    /// Withdraws one grant.
    pub(crate) fn revoke_grant(&mut self, id: Uuid) {
        let now = self.now();
        if let Some(row) = self.grants.get_mut(id) {
            row.granted_at = None;
            row.revoked_at = Some(now);
            row.modified_at = Some(now);
        }
        self.announce_grant(id, "benefit_grant.revoked");
    }

    /// After a change of product: withdraws what the new one lacks, grants what it adds, in the asked order.
    pub(crate) fn replace_grants(&mut self, subscription_id: Uuid, new_first: bool) {
        let wanted = self.benefits_of(subscription_id);
        if new_first {
            self.grant_missing(subscription_id);
            self.revoke_grants(subscription_id, &wanted);
        } else {
            self.revoke_grants(subscription_id, &wanted);
            self.grant_missing(subscription_id);
        }
    }

    /// A renewal touches every grant.
    pub(crate) fn cycle_grants(&mut self, subscription_id: Uuid) {
        for (id, _) in self.held_by(subscription_id) {
            self.announce_grant(id, "benefit_grant.cycled");
        }
    }

    fn announce_grant(&mut self, id: Uuid, kind: &'static str) {
        let Some(row) = self.grants.get(id) else {
            return;
        };
        let (view, customer) = (self.delivered_grant_view(row), row.customer_id);
        self.announce(kind, Payload::Ready(view));
        self.announce("customer.state_changed", Payload::CustomerState(customer));
    }
}
