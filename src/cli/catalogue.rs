//! `polar-jobs catalogue …`: what polar-jobs understands of the plans at Polar, before somebody buys one.

mod example;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use jobs::benefits::{Plan, SupportTier, plan};
use polar::{Client, Error, Product, Unlimited};
use serde::Serialize;

use super::clients::probe_client;
use super::output::{self, Format};
use super::{AppContext, Exit, Failure};
use crate::config::ConfigError;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Read the products and benefits at Polar, and say what is understood of each and what is wrong
    ///
    /// Exits with 1 where something is wrong with a plan on sale, else with 0. `docs/catalogue.md` explains the fields.
    Check(Check),
    /// Make an example catalogue of three plans, at a sandbox or the simulator
    Create(Create),
}

#[derive(Args)]
pub(super) struct Check {
    /// Lines for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args)]
pub(super) struct Create {
    /// The plans Pro, Growth and Scale
    #[arg(long, required = true)]
    example: bool,
    /// Also at the real Polar, where people can buy them at once
    #[arg(long)]
    yes: bool,
}

/// A product with what is understood of it.
#[derive(Serialize)]
struct Row {
    product_id: String,
    name: String,
    for_sale: bool,
    order: Option<i64>,
    /// Per month or year, in the smallest unit of the currency.
    price: Option<i64>,
    currency: Option<String>,
    fee_basis_points: Option<i32>,
    fee_fixed: Option<i32>,
    subscription_fee_basis_points: Option<i32>,
    support_tier: Option<&'static str>,
    preview_access: bool,
    sso_enabled: bool,
    features: Vec<String>,
    faults: Vec<String>,
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let polar = client(app)?;
    match command {
        Command::Check(arguments) => check(&polar, arguments.format).await,
        Command::Create(arguments) => {
            example::refuse_production(&app.config.polar.api_url, arguments.yes)?;
            example::create(&polar).await
        }
    }
}

/// A person's look does not wait in the fleet's queue.
fn client(app: &AppContext) -> Result<Client, Failure> {
    let settings = &app.config.polar;
    let billing = settings.billing.as_ref().ok_or_else(|| {
        ConfigError::missing(
            "POLAR_ACCESS_TOKEN",
            "the token of the Polar whose plans are meant",
        )
    })?;
    let client = probe_client(settings, billing, Arc::new(Unlimited));
    Ok(client.context("no client for Polar can be made")?)
}

async fn check(polar: &Client, format: Format) -> Result<Exit, Failure> {
    let products = polar
        .products()
        .all()
        .await
        .map_err(|error| refused(&error))?;
    let mut rows: Vec<Row> = products.iter().map(row).collect();
    name_what_is_there_twice(&mut rows);
    rows.sort_by_key(|row| (!row.for_sale, row.order.is_none(), row.order));
    let faults = rows
        .iter()
        .any(|row| row.for_sale && !row.faults.is_empty());
    match format {
        Format::Json => output::json(&rows)?,
        Format::Table => show(&rows)?,
    }
    Ok(if faults {
        Exit::ChecksFailed
    } else {
        Exit::Done
    })
}

/// Polar's refusal, with the scope that is missing where one is.
fn refused(error: &Error) -> Failure {
    Failure::failed(match error {
        Error::MissingScope { .. } => {
            format!(
                "{error}; give the token this scope in Polar, or use another token for this command"
            )
        }
        _ => error.to_string(),
    })
}

fn row(product: &Product) -> Row {
    let Plan {
        entitlements,
        order,
        features,
        mut faults,
    } = plan(product);
    let fees = entitlements.fees.flatten();
    let tier = entitlements.support.and_then(|support| support.tier);
    let mut prices = product.prices.iter().filter(|price| !price.is_archived);
    let price = prices.find(|price| price.amount_type == "fixed" || price.amount_type == "free");
    if price.is_none() {
        faults.push("has no fixed price, so pages show none".to_owned());
    }
    Row {
        product_id: product.id.to_string(),
        name: product.name.clone(),
        for_sale: product.is_for_sale(),
        order,
        price: price.map(|price| price.price_amount.unwrap_or(0)),
        currency: price.map(|price| price.price_currency.clone()),
        fee_basis_points: fees.map(|fees| fees.basis_points),
        fee_fixed: fees.map(|fees| fees.fixed),
        subscription_fee_basis_points: fees.map(|fees| fees.subscription_basis_points),
        support_tier: tier.map(SupportTier::as_str),
        preview_access: entitlements.preview_access,
        sso_enabled: entitlements.sso_enabled,
        features,
        faults,
    }
}

/// Two plans in one place, or of one name, are a slip of somebody who copied one.
fn name_what_is_there_twice(rows: &mut [Row]) {
    let mut orders: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate().filter(|(_, row)| row.for_sale) {
        if let Some(order) = row.order {
            orders.entry(order).or_default().push(place);
        }
        names
            .entry(row.name.to_lowercase())
            .or_default()
            .push(place);
    }
    for (order, places) in orders.into_iter().filter(|(_, places)| places.len() > 1) {
        for place in places {
            rows[place]
                .faults
                .push(format!("another plan has the order {order} as well"));
        }
    }
    for place in names
        .into_values()
        .filter(|places| places.len() > 1)
        .flatten()
    {
        rows[place]
            .faults
            .push("another plan has the same name".to_owned());
    }
}

fn show(rows: &[Row]) -> Result<(), Failure> {
    output::table(
        [
            "plan", "order", "price", "fees", "support", "preview", "sso", "features", "sold",
        ],
        rows.iter().map(|row| {
            let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
            let fees = match (
                row.fee_basis_points,
                row.fee_fixed,
                row.subscription_fee_basis_points,
            ) {
                (Some(share), Some(fixed), Some(subscription)) => {
                    format!("{share}/{fixed}/{subscription}")
                }
                _ => "platform's".to_owned(),
            };
            let price = row.price.map_or_else(
                || "-".to_owned(),
                |price| format!("{price} {}", row.currency.as_deref().unwrap_or_default()),
            );
            [
                row.name.clone(),
                row.order
                    .map_or_else(|| "-".to_owned(), |order| order.to_string()),
                price,
                fees,
                row.support_tier.unwrap_or("-").to_owned(),
                yes(row.preview_access),
                yes(row.sso_enabled),
                row.features.join(", "),
                yes(row.for_sale),
            ]
        }),
    )?;
    for row in rows {
        for fault in &row.faults {
            output::line(&output::flat(&format!(
                "{} ({}): {fault}",
                row.name, row.product_id
            )))?;
        }
    }
    Ok(())
}
