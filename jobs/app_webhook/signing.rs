//! Signatures as Standard Webhooks describes them (<https://www.standardwebhooks.com>): what every library of that name
//! verifies, given the secret as it stands in the settings.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// The lengths of keys that Standard Webhooks allows, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that messages are signed with.
#[derive(Clone)]
pub struct SigningKey {
    text: SecretString,
    key: SecretString,
}

impl SigningKey {
    /// Reads `whsec_` and 24 to 64 bytes in base64; `None` where it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = text.strip_prefix(PREFIX)?;
        let bytes = STANDARD.decode(key).ok()?;
        LENGTHS.contains(&bytes.len()).then(|| Self {
            text: text.into(),
            key: key.into(),
        })
    }

    /// The secret as it was given.
    pub(super) fn secret(&self) -> SecretString {
        self.text.clone()
    }

    /// One signature, as a part of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let key = STANDARD
            .decode(self.key.expose_secret())
            .expect("it was decoded when it was read");
        let mac = Hmac::<Sha256>::new_from_slice(&key)
            .expect("HMAC takes keys of any length")
            .chain_update(format!("{id}.{timestamp}."))
            .chain_update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::SigningKey;

    /// The example in the specification's own reference libraries.
    #[test]
    fn a_message_is_signed_as_the_reference_libraries_sign_it() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_of_standard_webhooks_is_refused_and_none_is_shown() {
        for wrong in [
            "",
            "secret",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert!(SigningKey::parse(wrong).is_none(), "{wrong}");
        }
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert!(!format!("{key:?}").contains("MfKQ"));
    }
}
