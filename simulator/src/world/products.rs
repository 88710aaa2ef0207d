//! Products and their benefits are made by requests and are there from the start; both are announced alike.

use serde_json::Value;
use uuid::Uuid;

use crate::world::model::{Benefit, Metadata, Product};
use crate::world::outbox::Payload;
use crate::world::store::Store;

impl Store {
    /// Adds a product and announces it.
    pub(crate) fn insert_product(
        &mut self,
        name: String,
        description: Option<String>,
        interval: String,
        price_amount: i64,
        metadata: Metadata,
        benefits: Vec<Uuid>,
    ) -> Uuid {
        let (id, price_id, created_at) = (self.fresh_id(), self.fresh_id(), self.now());
        self.products.insert(Product {
            id,
            created_at,
            modified_at: None,
            name,
            description,
            interval,
            archived: false,
            metadata,
            price_id,
            price_amount,
            benefits,
        });
        self.announce_product(id, "product.created");
        id
    }

    /// Sets what a product offers; running subscriptions follow. The product itself counts as unchanged.
    pub(crate) fn put_benefits(&mut self, product_id: Uuid, benefits: Vec<Uuid>) {
        let Some(row) = self.products.get_mut(product_id) else {
            return;
        };
        row.benefits = benefits;
        self.announce_product(product_id, "product.updated");
        let on_product = self
            .subscriptions
            .iter()
            .filter(|row| row.product_id == product_id);
        let running =
            on_product.filter(|row| matches!(row.status, "active" | "trialing" | "past_due"));
        for id in running.map(|row| row.id).collect::<Vec<_>>() {
            self.replace_grants(id, true);
        }
    }

    pub(crate) fn announce_product(&mut self, id: Uuid, kind: &'static str) {
        let Some(view) = self.products.get(id).map(|row| self.product_view(row)) else {
            return;
        };
        self.announce(kind, Payload::Ready(view));
    }

    /// Adds a benefit and announces it.
    pub(crate) fn insert_benefit(
        &mut self,
        description: &str,
        metadata: Metadata,
        properties: Value,
    ) -> Uuid {
        let (id, created_at) = (self.fresh_id(), self.now());
        let description = description.to_owned();
        let row = Benefit {
            id,
            kind: "custom",
            created_at,
            modified_at: None,
            description,
            metadata,
            properties,
        };
        let view = self.benefit_view(&row);
        self.benefits.insert(row);
        self.announce("benefit.created", Payload::Ready(view));
        id
    }

    /// Changes a benefit; its holders hear nothing but `benefit.updated`.
    pub(crate) fn edit_benefit(
        &mut self,
        id: Uuid,
        metadata: Option<Metadata>,
        description: Option<String>,
    ) {
        let now = self.now();
        let Some(row) = self.benefits.get_mut(id) else {
            return;
        };
        row.modified_at = Some(now);
        if let Some(metadata) = metadata {
            row.metadata = metadata;
        }
        if let Some(description) = description {
            row.description = description;
        }
        let Some(view) = self.benefits.get(id).map(|row| self.benefit_view(row)) else {
            return;
        };
        self.announce("benefit.updated", Payload::Ready(view));
    }
}
