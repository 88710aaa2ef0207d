//! People need something to buy: three plans with the benefits whose metadata the application reads.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::model::Metadata;
use crate::world::store::Store;

/// The seeded plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// 20 a month: fees 380/35/0, support level 2.
    Pro,
    /// 50 a month: fees 360/30/0, support level 3, preview access.
    Growth,
    /// 100 a month: fees 340/25/0, support level 4, preview access, single sign-on.
    Scale,
    /// Costs nothing and grants nothing; marked `custom`, because an application shows a free plan of its own.
    Free,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pro, Self::Growth, Self::Scale, Self::Free];

    /// The name Polar shows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pro => "Pro",
            Self::Growth => "Growth",
            Self::Scale => "Scale",
            Self::Free => "Free Plan",
        }
    }

    /// Cents per month.
    #[must_use]
    pub fn price(self) -> i64 {
        match self {
            Self::Pro => 2_000,
            Self::Growth => 5_000,
            Self::Scale => 10_000,
            Self::Free => 0,
        }
    }

    /// The metadata of the benefits it grants.
    #[must_use]
    pub fn benefits(self) -> Vec<Value> {
        let fee = |percent, fixed| json!({"type": "transaction_fee", "fee_percent": percent, "fee_fixed": fixed, "subscription_fee_percent": 0});
        let support = |level, tier| json!({"type": "support", "level": level, "slack": level > 2, "prioritized": level > 3, "plain_tier_external_id": tier});
        let preview = json!({"type": "preview_access"});
        match self {
            Self::Pro => vec![fee(380, 35), support(2, "pro")],
            Self::Growth => vec![fee(360, 30), support(3, "growth"), preview],
            Self::Scale => vec![
                fee(340, 25),
                support(4, "scale"),
                preview,
                json!({"type": "sso"}),
            ],
            Self::Free => Vec::new(),
        }
    }

    /// A product by its name, whatever the case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let first_word = |product: &Self| {
            product
                .name()
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_lowercase()
        };
        Self::ALL
            .into_iter()
            .find(|product| first_word(product) == name.to_lowercase())
    }
}

fn metadata(value: Value) -> Metadata {
    value.as_object().cloned().unwrap_or_default()
}

impl Store {
    /// Adds the plans and their benefits. Growth and Scale share the preview benefit.
    pub(crate) fn seed_catalogue(&mut self) {
        let mut shared: Vec<(Value, Uuid)> = Vec::new();
        for (order, product) in Product::ALL.into_iter().enumerate() {
            let mut ids = Vec::new();
            for wanted in product.benefits() {
                let known = shared
                    .iter()
                    .find(|(value, _)| *value == wanted)
                    .map(|(_, id)| *id);
                let id = known.unwrap_or_else(|| {
                    let kind = wanted["type"].as_str().unwrap_or_default();
                    let description = format!("{} {kind}", product.name());
                    self.insert_benefit(
                        &description,
                        metadata(wanted.clone()),
                        json!({"note": "Comes with the plan."}),
                    )
                });
                shared.push((wanted, id));
                ids.push(id);
            }
            let mut about =
                metadata(json!({"order": order + 1, "features": "Support, Lower fees"}));
            if matches!(product, Product::Free) {
                about.insert("custom".to_owned(), json!(true));
            }
            let name = product.name().to_owned();
            self.insert_product(name, None, "month".into(), product.price(), about, ids);
        }
    }

    /// The id of a seeded plan; the newest product of that name counts.
    pub(crate) fn plan(&self, product: Product) -> Option<Uuid> {
        self.products
            .iter()
            .rev()
            .find(|row| row.name == product.name())
            .map(|row| row.id)
    }
}
