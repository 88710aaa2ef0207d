//! Configured secrets never leave the process, also when a foreign answer echoes them.
//!
//! Everything that is logged passes through here, and so does everything that a worker writes into
//! `errors` and `note`. What is too short to be a secret is not looked for: a database password `jobs`
//! would hide that word everywhere and protect nothing. For these, and for passwords that are not ours,
//! every URL loses what stands before its host.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// What stands where a secret stood.
const MASK: &str = "***";

/// Fewer characters are guessed, not stolen, and are likely to be a word.
const SHORTEST_SECRET: usize = 8;

/// Defaults of tutorials and names of ours: long enough, and no secrets.
const WORDS: [&str; 8] = [
    "database",
    "password",
    "passw0rd",
    "polar-jobs",
    "polar_jobs",
    "postgres",
    "postgresql",
    "12345678",
];

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
        let mut masked = without_credentials(text);
        for secret in self.secrets.iter() {
            if masked.contains(&**secret) {
                masked = Cow::Owned(masked.replace(&**secret, MASK));
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
    if !is_secret(secret) {
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

/// Whether a configured value is one that nobody guesses, so that hiding it hides nothing else.
#[must_use]
pub fn is_secret(value: &str) -> bool {
    value.chars().count() >= SHORTEST_SECRET && !WORDS.contains(&value.to_lowercase().as_str())
}

/// The text with every `scheme://user:password@host` cut to `scheme://host`.
fn without_credentials(text: &str) -> Cow<'_, str> {
    let mut cut = Cow::Borrowed("");
    let mut rest = text;
    let mut seen = 0;
    while let Some(at) = rest.find("://") {
        let authority = &rest[at + 3..];
        let end = authority
            .find(|c: char| c.is_whitespace() || "/?#\"'<>\\`".contains(c))
            .unwrap_or(authority.len());
        let user = authority[..end].rfind('@').map_or(0, |at| at + 1);
        if user > 0 {
            cut.to_mut()
                .push_str(&text[seen..text.len() - authority.len()]);
            seen = text.len() - authority.len() + user;
        }
        rest = &authority[user..];
    }
    if seen == 0 {
        return Cow::Borrowed(text);
    }
    cut.to_mut().push_str(&text[seen..]);
    cut
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
    fn a_common_word_hides_nothing() {
        let masker = masker(&["jobs", "app", "postgres", "polar_jobs", "Password"]);
        let text = "app: 3 jobs applied; polar_jobs.jobs on postgres, no password";
        assert_eq!(masker.mask(text), text);
    }

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        let masker = masker(&["jobs"]);
        for (text, shown) in [
            (
                "at postgres://app:jobs@db:5432/shop!",
                "at postgres://db:5432/shop!",
            ),
            (
                "\"smtp://me:a@b@mail\" and http://x/y@z",
                "\"smtp://mail\" and http://x/y@z",
            ),
            (
                "https://a@b https://c:d@e/f?g=h@i",
                "https://b https://e/f?g=h@i",
            ),
            ("no:// url", "no:// url"),
        ] {
            assert_eq!(masker.mask(text), shown);
        }
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
            prop_assert!(!is_secret(&secret) || !masked.contains(&secret));
        }
    }
}
