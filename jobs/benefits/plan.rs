//! What is understood of a product of the catalogue before anybody buys it: by the same reading as when it is held.

use polar::{MetadataValue, Product};

use super::read::{KNOWN_TYPES, read};
use super::{Entitlements, HeldBenefit, names};

/// A product as polar-jobs understands it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What whoever buys it gets.
    pub entitlements: Entitlements,
    /// Its place among the plans, smallest first; without one it comes last.
    pub order: Option<i64>,
    /// What its description lists.
    pub features: Vec<String>,
    /// What is wrong, each in a sentence that names benefit and field.
    pub faults: Vec<String>,
}

/// Reads a product.
#[must_use]
pub fn plan(product: &Product) -> Plan {
    let held: Vec<HeldBenefit<'_>> = product
        .benefits
        .iter()
        .filter(|benefit| !benefit.is_deleted)
        .map(|benefit| HeldBenefit {
            id: benefit.id,
            metadata: &benefit.metadata,
        })
        .collect();
    let (entitlements, mut faults) = read(&held);
    faults.extend(held.iter().filter_map(misspelt));
    let order = match product.metadata.get(names::ORDER) {
        None => None,
        Some(value) => {
            let order = whole(value);
            if order.is_none() {
                faults.push(format!("metadata {} must be a whole number", names::ORDER));
            }
            order
        }
    };
    let features = match product.metadata.get(names::FEATURES) {
        None => Vec::new(),
        Some(MetadataValue::Text(text)) => text
            .split(',')
            .map(|feature| feature.trim().to_owned())
            .filter(|feature| !feature.is_empty())
            .collect(),
        Some(_) => {
            faults.push(format!(
                "metadata {} must be text, separated by commas",
                names::FEATURES
            ));
            Vec::new()
        }
    };
    Plan {
        entitlements,
        order,
        features,
        faults,
    }
}

fn whole(value: &MetadataValue) -> Option<i64> {
    match value {
        MetadataValue::Integer(number) => Some(*number),
        MetadataValue::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A type that looks like one of ours switches nothing on, and nobody would notice.
fn misspelt(benefit: &HeldBenefit<'_>) -> Option<String> {
    let MetadataValue::Text(found) = benefit.metadata.get(names::TYPE)? else {
        return Some(format!(
            "benefit {}: metadata type must be text",
            benefit.id
        ));
    };
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(char::is_ascii_alphanumeric);
        letters.map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let (known, written) = (KNOWN_TYPES, plain(found));
    let meant = known.into_iter().find(|known| {
        let name = plain(known);
        *known != found
            && (name == written
                || format!("{name}s") == written
                || name.contains(&written)
                || written.contains(&name))
    })?;
    let found: String = found.chars().take(40).collect();
    Some(format!(
        "benefit {}: metadata type {found:?} is none that switches anything on; is {meant} meant?",
        benefit.id
    ))
}
