//! Making products and benefits: what an example catalogue, and nothing else here, needs.

use serde::Serialize;

use crate::{
    Benefit, BenefitId, Error, Metadata, Operation, Product, ProductId, call::Call,
    products::Products,
};

const CREATE: Operation = Operation::post("/v1/products/");
const SET_BENEFITS: Operation = Operation::post("/v1/products/{id}/benefits");
const CREATE_BENEFIT: Operation = Operation::post("/v1/benefits/");

/// A plan that is to be sold by the month (docs/polar-facts.md#catalogue-create).
#[derive(Clone, Debug)]
pub struct NewPlan {
    /// Its name.
    pub name: String,
    /// The price of a month, in the smallest unit of the currency.
    pub amount: i64,
    /// The currency, lower case.
    pub currency: String,
    /// Flat metadata.
    pub metadata: Metadata,
}

/// A benefit that its metadata defines.
#[derive(Clone, Debug)]
pub struct NewBenefit {
    /// What people read, 3 to 42 characters.
    pub description: String,
    /// Flat metadata.
    pub metadata: Metadata,
}

#[derive(Serialize)]
struct PlanBody<'a> {
    name: &'a str,
    recurring_interval: &'static str,
    prices: [PriceBody<'a>; 1],
    metadata: &'a Metadata,
}

#[derive(Serialize)]
struct PriceBody<'a> {
    amount_type: &'static str,
    price_amount: i64,
    price_currency: &'a str,
}

#[derive(Serialize)]
struct BenefitBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    description: &'a str,
    properties: Properties,
    metadata: &'a Metadata,
}

#[derive(Serialize)]
struct Properties {
    note: Option<&'static str>,
}

#[derive(Serialize)]
struct Benefits<'a> {
    benefits: &'a [BenefitId],
}

impl Products<'_> {
    /// Makes a plan. A repetition makes another one.
    ///
    /// # Errors
    /// `MissingScope` without `products:write`; else as [`Error`] says.
    pub async fn create_plan(self, plan: &NewPlan) -> Result<Product, Error> {
        let body = PlanBody {
            name: &plan.name,
            recurring_interval: "month",
            prices: [PriceBody {
                amount_type: "fixed",
                price_amount: plan.amount,
                price_currency: &plan.currency,
            }],
            metadata: &plan.metadata,
        };
        self.0.fetch(Call::new(CREATE).json(&body)).await
    }

    /// Makes a benefit that no product gives yet. A repetition makes another one.
    ///
    /// # Errors
    /// `MissingScope` without `benefits:write`; else as [`Error`] says.
    pub async fn create_benefit(self, benefit: &NewBenefit) -> Result<Benefit, Error> {
        let body = BenefitBody {
            kind: "custom",
            description: &benefit.description,
            properties: Properties { note: None },
            metadata: &benefit.metadata,
        };
        self.0.fetch(Call::new(CREATE_BENEFIT).json(&body)).await
    }

    /// Lets a product give these benefits and no others.
    ///
    /// # Errors
    /// `MissingScope` without `products:write`; else as [`Error`] says.
    pub async fn set_benefits(
        self,
        product: ProductId,
        benefits: &[BenefitId],
    ) -> Result<Product, Error> {
        let call = Call::new(SET_BENEFITS).argument(product);
        self.0.fetch(call.json(&Benefits { benefits })).await
    }
}
