//! Amounts and dates as people expect them: the number of decimals follows from the currency, the separators
//! from the customer's language, the order of day and month from the region. The words are English.

use chrono::{DateTime, Utc};

use super::Money;

/// A customer's language and region, such as `de-CH` or `pt_BR`; unknown ones are written as in the United
/// States, which is where Polar bills from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Locale<'a> {
    language: &'a str,
    region: &'a str,
}

/// How a language writes numbers and where it puts the currency.
struct Style {
    decimal: char,
    group: &'static str,
    /// Where the currency stands.
    symbol: Symbol,
}

#[derive(Clone, Copy, PartialEq)]
enum Symbol {
    Before,
    BeforeWithBlank,
    After,
}

/// A blank at which no line is broken.
const BLANK: &str = "\u{a0}";

impl<'a> Locale<'a> {
    pub(super) fn parse(text: Option<&'a str>) -> Self {
        let mut parts = text.unwrap_or_default().split(['-', '_']);
        let language = parts.next().unwrap_or_default();
        // A script may stand between: zh-Hant-TW.
        let region = parts.find(|part| part.len() == 2).unwrap_or_default();
        Self { language, region }
    }

    fn style(self) -> Style {
        let style = |decimal, group, symbol| Style {
            decimal,
            group,
            symbol,
        };
        let is = |other: &str| self.language.eq_ignore_ascii_case(other);
        let in_region = |other: &str| self.region.eq_ignore_ascii_case(other);
        if in_region("CH") || in_region("LI") {
            return style('.', "’", Symbol::BeforeWithBlank);
        }
        if is("es")
            && ["MX", "US", "PR", "GT", "HN", "PA", "PE"]
                .iter()
                .any(|region| in_region(region))
        {
            return style('.', ",", Symbol::Before);
        }
        match self.language.to_ascii_lowercase().as_str() {
            "nl" => style(',', ".", Symbol::BeforeWithBlank),
            "pt" if in_region("BR") => style(',', ".", Symbol::BeforeWithBlank),
            "tr" => style(',', ".", Symbol::Before),
            "ca" | "da" | "de" | "el" | "es" | "hr" | "id" | "is" | "it" | "pt" | "ro" | "sl"
            | "vi" => style(',', ".", Symbol::After),
            "bg" | "cs" | "et" | "fi" | "fr" | "hu" | "lt" | "lv" | "nb" | "nn" | "no" | "pl"
            | "ru" | "sk" | "sv" | "uk" => style(',', BLANK, Symbol::After),
            _ => style('.', ",", Symbol::Before),
        }
    }
}

/// The decimals of a currency: how many digits of its amounts are behind the point (docs/polar-facts.md#decimals).
fn decimals(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "JPY" | "KMF" | "KRW" | "MGA" | "PYG" | "RWF" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

fn symbol(currency: &str) -> Option<&'static str> {
    Some(match currency {
        "USD" => "$",
        "EUR" => "€",
        "GBP" => "£",
        "JPY" => "¥",
        "KRW" => "₩",
        "INR" => "₹",
        "ILS" => "₪",
        "VND" => "₫",
        "TRY" => "₺",
        "BRL" => "R$",
        "AUD" => "A$",
        "CAD" => "CA$",
        "HKD" => "HK$",
        "MXN" => "MX$",
        "NZD" => "NZ$",
        "CNY" => "CN¥",
        _ => return None,
    })
}

/// An amount in words for people, such as `$1,234.50` or `1.234,50 €`.
pub(super) fn money(money: &Money, locale: Locale<'_>) -> String {
    let currency = money.currency.to_ascii_uppercase();
    let style = locale.style();
    let number = number(money.amount.unsigned_abs(), decimals(&currency), &style);
    let minus = if money.amount < 0 { "-" } else { "" };
    let symbol = symbol(&currency);
    let shown = symbol.unwrap_or(&currency);
    match (style.symbol, symbol) {
        (Symbol::After, _) => format!("{minus}{number}{BLANK}{shown}"),
        (Symbol::Before, Some(_)) => format!("{minus}{shown}{number}"),
        (Symbol::BeforeWithBlank | Symbol::Before, _) => format!("{minus}{shown}{BLANK}{number}"),
    }
}

fn number(amount: u64, decimals: usize, style: &Style) -> String {
    let digits = format!("{amount:0>width$}", width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let mut text = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            text.push_str(style.group);
        }
        text.push(digit);
    }
    if decimals > 0 {
        text.push(style.decimal);
        text.push_str(fraction);
    }
    text
}

/// A day in UTC: `November 21, 2026` in the United States and where nothing is known, `21 November 2026`
/// elsewhere.
pub(super) fn day(at: DateTime<Utc>, locale: Locale<'_>) -> String {
    let american = locale.language.is_empty()
        || (locale.language.eq_ignore_ascii_case("en")
            && ["", "US", "CA", "PH"]
                .iter()
                .any(|region| locale.region.eq_ignore_ascii_case(region)));
    let form = if american { "%B %-d, %Y" } else { "%-d %B %Y" };
    at.format(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(amount: i64, currency: &str, locale: &str) -> String {
        let amount = Money {
            amount,
            currency: currency.to_owned(),
        };
        money(&amount, Locale::parse(Some(locale))).replace(BLANK, " ")
    }

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        for (amount, currency, text) in [
            (2175, "usd", "$21.75"),
            (5, "usd", "$0.05"),
            (0, "eur", "€0.00"),
            (123_456_789, "gbp", "£1,234,567.89"),
            (-2000, "usd", "-$20.00"),
            (2175, "jpy", "¥2,175"),
            (0, "jpy", "¥0"),
            (2175, "kwd", "KWD 2.175"),
            (7, "kwd", "KWD 0.007"),
            (2000, "chf", "CHF 20.00"),
            (i64::MIN, "jpy", "-¥9,223,372,036,854,775,808"),
        ] {
            assert_eq!(shown(amount, currency, ""), text);
        }
    }

    #[test]
    fn separators_follow_the_language_and_the_region() {
        for (locale, text) in [
            ("en-US", "€1,234.50"),
            ("de-DE", "1.234,50 €"),
            ("de_AT", "1.234,50 €"),
            ("de-CH", "€ 1’234.50"),
            ("fr", "1 234,50 €"),
            ("nl-NL", "€ 1.234,50"),
            ("pt-BR", "€ 1.234,50"),
            ("pt-PT", "1.234,50 €"),
            ("es-MX", "€1,234.50"),
            ("zh-Hant-TW", "€1,234.50"),
            ("of a later release", "€1,234.50"),
        ] {
            assert_eq!(shown(123_450, "eur", locale), text, "{locale}");
        }
        assert_eq!(shown(1_234_567, "kwd", "fr-FR"), "1 234,567 KWD");
    }

    #[test]
    fn days_are_written_as_the_region_orders_them() {
        let at = DateTime::from_timestamp(1_795_219_200, 0).unwrap_or_default();
        for (locale, text) in [
            (None, "November 21, 2026"),
            (Some("en"), "November 21, 2026"),
            (Some("en_us"), "November 21, 2026"),
            (Some("en-GB"), "21 November 2026"),
            (Some("de"), "21 November 2026"),
        ] {
            assert_eq!(day(at, Locale::parse(locale)), text);
        }
    }
}
