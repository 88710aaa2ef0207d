//! Takes out of foreign words what must not be stored: people's addresses and our token.

/// The most of a foreign text that is kept, in bytes.
const LONGEST: usize = 500;
const ADDRESS: &str = "[address]";
const TOKEN: &str = "[token]";

/// Cleans texts that came from Polar.
pub(crate) struct Redactor<'a> {
    token: &'a str,
}

impl<'a> Redactor<'a> {
    pub(crate) fn new(token: &'a str) -> Self {
        Self { token }
    }

    /// The text, shortened, with addresses and the token masked.
    pub(crate) fn clean(&self, text: &str) -> String {
        let without_token = if self.token.is_empty() {
            text.to_owned()
        } else {
            text.replace(self.token, TOKEN)
        };
        shorten(mask_addresses(&without_token))
    }

    /// As `clean`, for words about a value that is known: a value that looks like an address is
    /// masked wherever it stands, however oddly it is written.
    pub(crate) fn clean_about(&self, text: &str, value: Option<&str>) -> String {
        match value {
            Some(value) if value.contains('@') => self.clean(&text.replace(value, ADDRESS)),
            _ => self.clean(text),
        }
    }
}

/// A word with an `@` before a letter or digit is taken for an address. Too much masked is a
/// poorer message; too little is somebody's address in a table.
fn mask_addresses(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_boundary) {
        let word = piece.trim_end_matches(is_boundary);
        let is_address = word
            .char_indices()
            .any(|(at, c)| c == '@' && word[at + 1..].starts_with(char::is_alphanumeric));
        if is_address {
            let sentence_end = &word[word.trim_end_matches('.').len()..];
            masked.push_str(ADDRESS);
            masked.push_str(sentence_end);
            masked.push_str(&piece[word.len()..]);
        } else {
            masked.push_str(piece);
        }
    }
    masked
}

fn is_boundary(c: char) -> bool {
    c.is_whitespace() || "<>()[]{}\"'`,;:".contains(c)
}

fn shorten(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_masked_wherever_they_stand() {
        let redactor = Redactor::new("");
        for (text, expected) in [
            ("a@b.com is not valid: no.", "[address] is not valid: no."),
            ("for <Ann.O+x@exämple.com>, sorry", "for <[address]>, sorry"),
            ("mail \"a@b.com\".", "mail \"[address]\"."),
            ("mail a@b.com.", "mail [address]."),
            ("must have an @-sign.", "must have an @-sign."),
            ("nothing here", "nothing here"),
            ("", ""),
        ] {
            assert_eq!(redactor.clean(text), expected);
        }
    }

    #[test]
    fn a_known_value_is_masked_in_any_spelling() {
        let value = "\"ann o\"@b.com";
        let text = format!("{value} is not a valid email address");
        assert_eq!(
            Redactor::new("").clean_about(&text, Some(value)),
            "[address] is not a valid email address"
        );
    }

    #[test]
    fn the_token_is_masked_and_long_texts_are_cut_between_characters() {
        let redactor = Redactor::new("polar_oat_x");
        assert_eq!(redactor.clean("bad polar_oat_x!"), "bad [token]!");
        let cut = redactor.clean(&"ø".repeat(400));
        assert_eq!(cut, format!("{}…", "ø".repeat(250)));
    }

    proptest! {
        #[test]
        fn no_plain_address_survives_whatever_surrounds_it(
            before in "\\PC{0,40}",
            local in "[a-z0-9.+_-]{1,20}",
            domain in "[a-z0-9]{1,10}[.][a-z]{2,5}",
            after in "\\PC{0,600}",
        ) {
            let address = format!("{local}@{domain}");
            let cleaned = Redactor::new("").clean(&format!("{before}{address}{after}"));
            prop_assert!(!cleaned.contains(&address), "{}", cleaned);
            prop_assert!(cleaned.len() <= LONGEST + '…'.len_utf8());
        }
    }
}
