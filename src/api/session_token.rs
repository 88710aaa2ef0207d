//! The tokens with which people call: made and signed by the application, for an hour at most. Whatever
//! is wrong with one, the answer is the same 401, so that nobody learns which part was right.

use jobs::types::UserId;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::hs256;

/// The audience that a token must name.
const AUDIENCE: &str = "polar-jobs";
/// By how much the application's clock and ours may differ, in seconds.
const CLOCK_LEEWAY: u64 = 5;
/// The longest that a token may still be valid, in seconds.
const MAX_LIFETIME: u64 = 3600;

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
}

/// Checks tokens with the application's key.
pub(super) struct SessionVerifier {
    key: DecodingKey,
    validation: Validation,
}

impl SessionVerifier {
    pub(super) fn new(secret: &SecretString) -> Self {
        hs256::install();
        // The algorithm is ours to choose, never the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "sub", "aud"]);
        validation.leeway = CLOCK_LEEWAY;
        validation.validate_nbf = true;
        Self {
            key: DecodingKey::from_secret(secret.expose_secret().as_bytes()),
            validation,
        }
    }

    /// Returns the user whose token it is; `None` for one that is wrong in any way.
    pub(super) fn verify(&self, token: &[u8]) -> Option<UserId> {
        let claims = decode::<Claims>(token, &self.key, &self.validation)
            .ok()?
            .claims;
        let latest = jsonwebtoken::get_current_timestamp() + MAX_LIFETIME + CLOCK_LEEWAY;
        (claims.exp <= latest)
            .then(|| UserId::parse(&claims.sub))
            .flatten()
    }
}
