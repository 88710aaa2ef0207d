//! The application's bearer token.

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Whether the request carries the token. The comparison takes as long for a nearly right token
/// as for a wrong one of the same length.
pub(super) fn has_bearer_token(headers: &HeaderMap, token: &SecretString) -> bool {
    let Some(given) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| bearer(value.as_bytes()))
    else {
        return false;
    };
    given.ct_eq(token.expose_secret().as_bytes()).into()
}

/// The credentials behind `Bearer`, whose case does not matter (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, credentials) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| credentials.trim_ascii())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

    use super::*;

    #[test]
    fn only_the_exact_token_behind_bearer_is_accepted() {
        let token = SecretString::from("correct-horse");
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            has_bearer_token(&headers, &token)
        };
        for accepted in [
            "Bearer correct-horse",
            "bearer correct-horse",
            "BEARER  correct-horse ",
        ] {
            assert!(accepts(accepted), "{accepted}");
        }
        for refused in [
            "",
            "Bearer",
            "Bearer ",
            "correct-horse",
            "Basic correct-horse",
            "Bearer correct-hors",
            "Bearer correct-horsee",
            "Bearer wrong",
            "Bearercorrect-horse",
        ] {
            assert!(!accepts(refused), "{refused}");
        }
        assert!(!has_bearer_token(&HeaderMap::new(), &token));
    }
}
