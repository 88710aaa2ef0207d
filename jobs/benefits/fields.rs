//! Metadata fields, which may be text, integer, float or boolean; whatever else stands there is a
//! fault of that field alone.

use std::ops::RangeInclusive;

use polar::MetadataValue;

use super::HeldBenefit;

/// A whole number within a range: an integer, a float without fraction, or text that is one.
pub(super) fn integer(
    benefit: HeldBenefit<'_>,
    field: &str,
    range: RangeInclusive<i64>,
) -> Result<i64, String> {
    let number = match benefit.metadata.get(field) {
        Some(MetadataValue::Integer(number)) => Some(*number),
        Some(MetadataValue::Float(number)) => whole(*number),
        Some(MetadataValue::Text(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| fault(benefit, field, "must be a whole number"))?;
    if range.contains(&number) {
        return Ok(number);
    }
    Err(fault(
        benefit,
        field,
        &format!("must be from {} to {}", range.start(), range.end()),
    ))
}

/// `true` or `false`, also as exactly that text.
pub(super) fn boolean(benefit: HeldBenefit<'_>, field: &str) -> Result<bool, String> {
    match benefit.metadata.get(field) {
        Some(MetadataValue::Boolean(flag)) => Ok(*flag),
        Some(MetadataValue::Text(text)) if text == "true" => Ok(true),
        Some(MetadataValue::Text(text)) if text == "false" => Ok(false),
        _ => Err(fault(benefit, field, "must be true or false")),
    }
}

/// Absent, or text that is not empty.
pub(super) fn optional_text(
    benefit: HeldBenefit<'_>,
    field: &str,
) -> Result<Option<String>, String> {
    match benefit.metadata.get(field) {
        None => Ok(None),
        Some(MetadataValue::Text(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(fault(benefit, field, "must be text that is not empty")),
    }
}

fn fault(benefit: HeldBenefit<'_>, field: &str, rule: &str) -> String {
    format!("benefit {}: metadata {field} {rule}", benefit.id)
}

/// The number as an integer, if it is one exactly.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    if number.abs() > EXACT || number.fract().abs() > 0.0 || number.is_nan() {
        return None;
    }
    format!("{number:.0}").parse().ok()
}
