//! Configured secrets never leave the process, also when a foreign answer echoes them (contract 8).
//!
//! Everything that is logged passes through here, and so does everything that a worker writes into
//! `errors` and `note`.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// What stands where a secret stood.
const MASK: &str = "***";

/// A secret shorter than this is masked only where it stands as a word of its own: the password
/// `app` must not tear holes into every `applied`.
const LONG_ENOUGH: usize = 8;

/// Replaces configured secrets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masker {
    /// Longest first, so that a secret that contains another one disappears whole.
    secrets: Arc<[Box<str>]>,
}

impl Masker {
    /// A masker of these secrets, in the forms in which they may turn up: as they are, as a JSON
    /// string and percent-encoded.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let mut forms: Vec<Box<str>> = secrets
            .into_iter()
            .flat_map(|secret| forms(secret.expose_secret()))
            .collect();
        forms.sort_unstable_by(|left, right| {
            right.len().cmp(&left.len()).then_with(|| left.cmp(right))
        });
        forms.dedup();
        Self {
            secrets: forms.into(),
        }
    }

    /// The text without the secrets.
    #[must_use]
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in self.secrets.iter() {
            if masked.contains(&**secret) {
                masked = Cow::Owned(replace(&masked, secret));
            }
        }
        masked
    }
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masker({} forms)", self.secrets.len())
    }
}

fn forms(secret: &str) -> Vec<Box<str>> {
    if secret.is_empty() {
        return Vec::new();
    }
    let json = serde_json::Value::from(secret).to_string();
    let debug = format!("{secret:?}");
    let percent: String = reqwest::Url::parse_with_params("x:/", [("v", secret)])
        .map(|url| {
            url.query()
                .unwrap_or_default()
                .trim_start_matches("v=")
                .to_owned()
        })
        .unwrap_or_default();
    let inside = |quoted: &str| quoted[1..quoted.len() - 1].to_owned();
    let all = [secret.to_owned(), inside(&json), inside(&debug), percent];
    all.into_iter()
        .filter(|form| !form.is_empty())
        .map(String::into_boxed_str)
        .collect()
}

fn replace(text: &str, secret: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, found) = rest.split_at(at);
        let after = &found[secret.len()..];
        masked.push_str(before);
        let whole_word = !ends_in_word(&masked) && !after.starts_with(is_word);
        masked.push_str(if secret.len() >= LONG_ENOUGH || whole_word {
            MASK
        } else {
            secret
        });
        rest = after;
    }
    masked.push_str(rest);
    masked
}

fn ends_in_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(is_word)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// A writer that masks whatever passes. It expects whole lines per write, as log formatters do.
pub struct MaskingWriter<W> {
    inner: W,
    masker: Masker,
}

impl<W: io::Write> MaskingWriter<W> {
    /// Masks before `inner`.
    pub fn new(inner: W, masker: Masker) -> Self {
        Self { inner, masker }
    }
}

impl<W: io::Write> io::Write for MaskingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.inner.write_all(self.masker.mask(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        Masker::new(secrets.iter().map(|secret| SecretString::from(*secret)))
    }

    #[test]
    fn a_secret_disappears_wherever_it_stands() {
        let masker = masker(&["polar_oat_abcdef", "polar_oat_abcdef_longer"]);
        let text = "Bearer polar_oat_abcdef; xpolar_oat_abcdefx; polar_oat_abcdef_longer";
        assert_eq!(masker.mask(text), "Bearer ***; x***x; ***");
    }

    #[test]
    fn a_short_secret_is_masked_only_as_a_word() {
        let masker = masker(&["app"]);
        assert_eq!(
            masker.mask("app:app@host applied, wrapper"),
            "***:***@host applied, wrapper"
        );
    }

    #[test]
    fn escaped_forms_disappear_too() {
        let masker = masker(&["pa\"ss wörd/1"]);
        for shown in [r#"{"m":"pa\"ss wörd/1"}"#, "password=pa%22ss+w%C3%B6rd%2F1"] {
            assert!(masker.mask(shown).contains("***"), "{shown}");
        }
    }

    #[test]
    fn a_text_without_secrets_is_not_copied() {
        assert!(matches!(
            masker(&["secret-secret"]).mask("nothing here"),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn a_log_line_passes_through_the_mask() {
        let mut out = Vec::new();
        MaskingWriter::new(&mut out, masker(&["hunter2hunter2"]))
            .write_all(b"token hunter2hunter2\n")
            .unwrap();
        assert_eq!(out, b"token ***\n");
    }

    proptest! {
        #[test]
        fn no_long_secret_survives(before in ".*", secret in "[A-Za-z0-9]{12,40}", after in ".*") {
            let masked = masker(&[&secret]).mask(&format!("{before}{secret}{after}")).into_owned();
            prop_assert!(!masked.contains(&secret));
        }
    }
}
