//! A tax id is refused where it does not belong to the country. The rules of a few countries are enough to be refused
//! and accepted as at Polar.

/// Countries whose numbers are `eu_vat`: the country's letters (Greece has its own), then 8 to 12 letters and digits.
const EUROPEAN_UNION: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// The format that a tax id has in a country; `None` where it is not valid there.
pub(crate) fn tax_id_format(tax_id: &str, country: &str) -> Option<&'static str> {
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|letter| letter.is_ascii_digit())
    };
    match country {
        "US" => {
            let (area, serial) = tax_id.split_once('-')?;
            (digits(area, 2) && digits(serial, 7)).then_some("us_ein")
        }
        "GB" => {
            let number = tax_id.strip_prefix("GB")?;
            (digits(number, 9) || digits(number, 12)).then_some("gb_vat")
        }
        _ if EUROPEAN_UNION.contains(&country) => {
            let prefix = if country == "GR" { "EL" } else { country };
            let number = tax_id.strip_prefix(prefix)?;
            let fits = (8..=12).contains(&number.len())
                && number.bytes().all(|letter| letter.is_ascii_alphanumeric())
                && number.bytes().any(|letter| letter.is_ascii_digit());
            fits.then_some("eu_vat")
        }
        _ => None,
    }
}
