//! Values that must never be shown.

use secrecy::SecretString;

use super::{ConfigError, Environment};

/// A token, as a header can carry it. A paste with a line break or a blank inside is a mistake that
/// is better found here than as a 401.
pub(super) fn token(
    environment: &Environment,
    variable: &'static str,
) -> Result<Option<SecretString>, ConfigError> {
    let Some(text) = environment.text(variable)? else {
        return Ok(None);
    };
    if text.chars().all(|character| character.is_ascii_graphic()) {
        Ok(Some(SecretString::from(text)))
    } else {
        let what = "holds blanks or characters that no header can carry";
        Err(ConfigError::new(
            variable,
            what,
            "a token of visible ASCII characters",
        ))
    }
}

/// Several secrets, separated by white space or commas.
pub(super) fn list(
    environment: &Environment,
    variable: &'static str,
) -> Result<Vec<SecretString>, ConfigError> {
    let text = environment.text(variable)?.unwrap_or_default();
    let parts = text.split(|character: char| character == ',' || character.is_whitespace());
    Ok(parts
        .filter(|part| !part.is_empty())
        .map(SecretString::from)
        .collect())
}
