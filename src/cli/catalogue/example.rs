//! Three plans to begin with, as `docs/catalogue.md` prints their metadata.

use polar::{BenefitId, Client, Metadata, NewBenefit, NewPlan, Product};
use reqwest::Url;
use serde_json::{Value, json};

use super::super::{Exit, Failure, output};
use super::refused;

/// A plan of the example.
struct Example {
    name: &'static str,
    amount: i64,
    metadata: Value,
    benefits: Vec<(&'static str, Value)>,
}

fn plans() -> [Example; 3] {
    let fee = |share: i64, fixed: i64| json!({"type": "transaction_fee", "fee_percent": share, "fee_fixed": fixed, "subscription_fee_percent": 0});
    let support = |level: i64| json!({"type": "support", "level": level, "slack": level > 2, "prioritized": level > 3});
    let preview = ("Preview features", json!({"type": "preview_access"}));
    [
        Example {
            name: "Pro",
            amount: 2_000,
            metadata: json!({"order": 1, "features": "Lower fees, Support"}),
            benefits: vec![
                ("Fees of Pro", fee(380, 35)),
                ("Support of Pro", support(2)),
            ],
        },
        Example {
            name: "Growth",
            amount: 5_000,
            metadata: json!({"order": 2, "features": "Lower fees, Support in Slack, Preview features"}),
            benefits: vec![
                ("Fees of Growth", fee(360, 30)),
                ("Support of Growth", support(3)),
                preview.clone(),
            ],
        },
        Example {
            name: "Scale",
            amount: 10_000,
            metadata: json!({"order": 3, "features": "Lowest fees, Prioritized support, Preview features, Single sign-on"}),
            benefits: vec![
                ("Fees of Scale", fee(340, 25)),
                ("Support of Scale", support(4)),
                preview,
                ("Single sign-on", json!({"type": "sso"})),
            ],
        },
    ]
}

/// Plans at the real Polar are on sale the moment that they exist.
pub(super) fn refuse_production(api_url: &Url, yes: bool) -> Result<(), Failure> {
    if api_url.host_str() == Some("api.polar.sh") && !yes {
        return Err(Failure::usage(
            "POLAR_API_URL is the real Polar, where people could buy the example's plans: use https://sandbox-api.polar.sh or the simulator, or say --yes",
        ));
    }
    Ok(())
}

/// Makes the plans that are not there by their names. One that was made half is completed by hand, or archived and made anew.
pub(super) async fn create(polar: &Client) -> Result<Exit, Failure> {
    let there = polar
        .products()
        .all()
        .await
        .map_err(|error| refused(&error))?;
    let is_there = |name: &str| {
        let mut alive = there.iter().filter(|product| !product.is_archived);
        alive.any(|product| product.name.eq_ignore_ascii_case(name))
    };
    let mut benefits = Vec::new();
    for example in plans() {
        if is_there(example.name) {
            output::line(&format!(
                "{}: is there already, left as it is",
                example.name
            ))?;
            continue;
        }
        let made = make(polar, &example, &mut benefits)
            .await
            .map_err(|error| refused(&error))?;
        output::line(&format!("{}: made, {}", example.name, made.id))?;
    }
    Ok(Exit::Done)
}

/// The benefits first, so that the plan is sold without them for as short as can be. Plans share what is the same in them:
/// whoever changes from one to the other keeps it, and never holds two of a kind.
async fn make(
    polar: &Client,
    example: &Example,
    made: &mut Vec<(Value, BenefitId)>,
) -> Result<Product, polar::Error> {
    let products = polar.products();
    let mut benefits = Vec::new();
    for (description, fields) in &example.benefits {
        if let Some((_, id)) = made.iter().find(|(shared, _)| shared == fields) {
            benefits.push(*id);
            continue;
        }
        let benefit = NewBenefit {
            description: (*description).to_owned(),
            metadata: metadata(fields),
        };
        let id = products.create_benefit(&benefit).await?.id;
        made.push((fields.clone(), id));
        benefits.push(id);
    }
    let plan = NewPlan {
        name: example.name.to_owned(),
        amount: example.amount,
        currency: "usd".to_owned(),
        metadata: metadata(&example.metadata),
    };
    let product = products.create_plan(&plan).await?;
    products.set_benefits(product.id, &benefits).await
}

fn metadata(fields: &Value) -> Metadata {
    serde_json::from_value(fields.clone()).expect("the example's metadata is a flat object")
}
