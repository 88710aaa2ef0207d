//! A cost of 1,000 dollars or of 13 decimals is refused by Polar with a certain error; the limits are on
//! decimal digits, so they are counted on the text and not on a binary number.

use serde_json::{Value, json};

use crate::resources::errors::Fault;

const DIGITS: i64 = 17;
const DECIMALS: i64 = 12;

/// What is wrong with an amount, if anything: at most 17 digits, 12 of them decimals, so 5 before the point.
pub(crate) fn decimal_fault(value: &Value, loc: Vec<Value>) -> Option<Fault> {
    let fault = |kind, message: &str| Fault::new(kind, loc.clone(), message, value.clone());
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => {
            return Some(fault(
                "decimal_type",
                "Decimal input should be an integer, float, string or Decimal object",
            ));
        }
    };
    if matches!(
        text.to_lowercase().trim_start_matches(['+', '-']),
        "nan" | "snan" | "inf" | "infinity"
    ) {
        return Some(fault("finite_number", "Input should be a finite number"));
    }
    let Some((digits, decimals)) = count(&text) else {
        return Some(fault("decimal_parsing", "Input should be a valid decimal"));
    };
    let (kind, limit, key, most) = over_limit(digits, decimals)?;
    let message = format!("Decimal input should have no more than {most} {limit}");
    Some(fault(kind, &message).context(json!({key: most})))
}

/// The limit that is exceeded, in the order in which they are checked.
fn over_limit(
    digits: i64,
    decimals: i64,
) -> Option<(&'static str, &'static str, &'static str, i64)> {
    let whole = DIGITS - DECIMALS;
    if digits > DIGITS {
        Some((
            "decimal_max_digits",
            "digits in total",
            "max_digits",
            DIGITS,
        ))
    } else if decimals > DECIMALS {
        Some((
            "decimal_max_places",
            "decimal places",
            "decimal_places",
            DECIMALS,
        ))
    } else if digits - decimals > whole {
        Some((
            "decimal_whole_digits",
            "digits before the decimal point",
            "whole_digits",
            whole,
        ))
    } else {
        None
    }
}

/// Digits in all and after the point; `None` where the text is no decimal number.
fn count(text: &str) -> Option<(i64, i64)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = i64::try_from(all.trim_start_matches('0').len().max(1)).ok()?;
    let exponent = exponent.parse::<i64>().ok()? - i64::try_from(fraction.len()).ok()?;
    if exponent >= 0 {
        return Some((significant.checked_add(exponent)?, 0));
    }
    Some((significant.max(-exponent), -exponent))
}
