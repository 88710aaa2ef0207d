//! Whether a plan costs more than the one that an organization has, which decides whether a change is made at once.
//!
//! Amounts cannot be compared where one is for a month and the other for a year, or where their currencies
//! differ. So the prices of a day are compared, in the currency that the organization pays in.

use polar::{Product, Subscription};

use crate::api::plans;

/// Whether the product costs more per day than the subscription. False where it has no fixed price in the
/// subscription's currency: nobody is charged at once for what cannot be compared.
pub(super) fn is_higher(product: &Product, current: &Subscription) -> bool {
    let Some(price) = plans::fixed_price_in(product, &current.currency) else {
        return false;
    };
    let wanted = period_length(
        product.recurring_interval.as_deref(),
        product.recurring_interval_count,
    );
    let paid = period_length(
        current.recurring_interval.as_deref(),
        current.recurring_interval_count,
    );
    match (wanted, paid) {
        (Some(wanted), Some(paid)) => {
            i128::from(price.amount) * paid > i128::from(current.amount) * wanted
        }
        // A period that is not known here can only be compared with itself.
        _ => {
            product.recurring_interval == current.recurring_interval
                && product.recurring_interval_count == current.recurring_interval_count
                && price.amount > current.amount
        }
    }
}

/// How long a period lasts, in 48ths of a day, so that a month, which is a 48th of four years, is a whole number.
fn period_length(interval: Option<&str>, count: Option<u32>) -> Option<i128> {
    const DAY: i128 = 48;
    const MONTH: i128 = 4 * 365 + 1;
    let one = match interval? {
        "day" => DAY,
        "week" => 7 * DAY,
        "month" => MONTH,
        "year" => 12 * MONTH,
        _ => return None,
    };
    Some(one * i128::from(count.unwrap_or(1).max(1)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn product(prices: &[(i64, &str)], interval: &str, count: u32) -> Product {
        let prices: Vec<_> = prices
            .iter()
            .map(|(amount, currency)| {
                json!({"amount_type": "fixed", "price_amount": amount, "price_currency": currency})
            })
            .collect();
        let product = json!({
            "id": uuid::Uuid::nil(), "name": "Plan", "prices": prices, "recurring_interval": interval,
            "recurring_interval_count": count,
        });
        serde_json::from_value(product).expect("it has what a product has")
    }

    fn paying(amount: i64, currency: &str, interval: &str, count: u32) -> Subscription {
        let subscription = json!({
            "id": uuid::Uuid::nil(), "product_id": uuid::Uuid::nil(), "customer_id": uuid::Uuid::nil(),
            "status": "active", "amount": amount, "currency": currency, "recurring_interval": interval,
            "recurring_interval_count": count, "created_at": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(subscription).expect("it has what a subscription has")
    }

    #[test]
    fn a_year_is_compared_with_a_month_by_what_a_month_costs() {
        let yearly = product(&[(20_000, "usd")], "year", 1);
        assert!(!is_higher(&yearly, &paying(2_000, "usd", "month", 1)));
        assert!(is_higher(&yearly, &paying(1_000, "usd", "month", 1)));
        assert!(!is_higher(&yearly, &paying(5_000, "usd", "month", 3)));
        assert!(is_higher(&yearly, &paying(4_999, "usd", "month", 3)));
        let monthly = product(&[(10_000, "usd")], "month", 1);
        assert!(is_higher(&monthly, &paying(20_000, "usd", "year", 1)));
        let weekly = product(&[(500, "usd")], "week", 1);
        assert!(is_higher(&weekly, &paying(2_000, "usd", "month", 1)));
        assert!(!is_higher(&weekly, &paying(2_200, "usd", "month", 1)));
    }

    #[test]
    fn only_prices_in_the_currency_that_is_paid_are_compared() {
        let product = product(&[(90_000, "jpy"), (5_000, "eur")], "month", 1);
        assert!(is_higher(&product, &paying(4_000, "eur", "month", 1)));
        assert!(!is_higher(&product, &paying(6_000, "eur", "month", 1)));
        assert!(!is_higher(&product, &paying(2_000, "usd", "month", 1)));
    }

    #[test]
    fn the_same_price_is_not_higher_whatever_the_period() {
        for (interval, count) in [("day", 3), ("week", 1), ("month", 2), ("year", 1)] {
            let same = product(&[(700, "usd")], interval, count);
            assert!(!is_higher(&same, &paying(700, "usd", interval, count)));
            assert!(is_higher(&same, &paying(699, "usd", interval, count)));
        }
    }
}
