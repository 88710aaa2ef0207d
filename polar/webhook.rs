//! Is this delivery Polar's? Checked over the exact bytes that came.
//!
//! Polar's scheme is Standard Webhooks but for the key: it is the text of the whole secret, prefix
//! included, never decoded. A stock library given the secret as shown computes another signature
//! without complaint.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// How far the delivery's clock may be from ours, in seconds, edges included.
pub const TOLERANCE_SECONDS: i64 = 300;

/// The three headers of a delivery, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignatureHeaders<'a> {
    /// `webhook-id`: the same for every attempt of one event.
    pub id: Option<&'a [u8]>,
    /// `webhook-timestamp`: seconds since 1970 of this attempt.
    pub timestamp: Option<&'a [u8]>,
    /// `webhook-signature`: one or more `v1,<base64>`.
    pub signature: Option<&'a [u8]>,
}

/// A delivery that is Polar's. Only [`Verifier::verify`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'a> {
    /// The delivery's id, the key to tell a repetition.
    pub id: &'a str,
    /// When this attempt was signed, whole seconds since 1970.
    pub signed_at: i64,
    /// The bytes that were signed.
    pub body: &'a [u8],
}

/// Why a delivery is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SignatureError {
    /// We hold no secret, so nothing can be verified.
    #[error("no webhook secret is configured")]
    NoSecret,
    /// `webhook-id` is missing or empty.
    #[error("the header webhook-id is missing")]
    MissingId,
    /// `webhook-timestamp` is missing or empty.
    #[error("the header webhook-timestamp is missing")]
    MissingTimestamp,
    /// `webhook-signature` is missing or empty.
    #[error("the header webhook-signature is missing")]
    MissingSignature,
    /// `webhook-id` is not text.
    #[error("the header webhook-id is not text")]
    UnreadableId,
    /// `webhook-timestamp` is no finite number.
    #[error("the header webhook-timestamp is not a number")]
    UnreadableTimestamp,
    /// Signed too long ago: a replay, or a clock that is wrong.
    #[error("the delivery was signed more than 300 s ago")]
    TooOld,
    /// Signed in the future: a clock is wrong.
    #[error("the delivery was signed more than 300 s in the future")]
    TooNew,
    /// The header holds nothing of the form `v1,<base64 of 32 bytes>`.
    #[error("the header webhook-signature holds no v1 signature")]
    UnreadableSignature,
    /// No signature is made with one of our secrets over these bytes.
    #[error("no signature matches")]
    Mismatch,
}

/// Returns the `webhook-signature` with which Polar would send these bytes: for trying an ingress.
#[must_use]
pub fn sign(secret: &SecretString, id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Verifies deliveries against one or more secrets, so that a secret can be changed without a gap.
///
/// The keyed state of each secret is computed once; a verification copies it.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<Hmac<Sha256>>,
}

impl Verifier {
    /// A verifier that accepts any of these secrets. Empty ones are left out: an empty key would
    /// accept what anybody can sign.
    #[must_use]
    pub fn new(secrets: Vec<SecretString>) -> Self {
        let keyed = |secret: &SecretString| {
            Hmac::new_from_slice(secret.expose_secret().as_bytes())
                .expect("HMAC takes a key of any length")
        };
        let usable = |secret: &&SecretString| !secret.expose_secret().is_empty();
        Self {
            keys: secrets.iter().filter(usable).map(keyed).collect(),
        }
    }

    /// Whether there is a secret at all.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Verifies one delivery. `body` must be the bytes as they came.
    ///
    /// # Errors
    /// One [`SignatureError`] per way to fail; the cheap checks come first.
    pub fn verify<'a>(
        &self,
        headers: SignatureHeaders<'a>,
        body: &'a [u8],
        now: DateTime<Utc>,
    ) -> Result<Verified<'a>, SignatureError> {
        if !self.is_configured() {
            return Err(SignatureError::NoSecret);
        }
        let id = present(headers.id).ok_or(SignatureError::MissingId)?;
        let timestamp = present(headers.timestamp).ok_or(SignatureError::MissingTimestamp)?;
        let signature = present(headers.signature).ok_or(SignatureError::MissingSignature)?;
        let id = str::from_utf8(id).map_err(|_| SignatureError::UnreadableId)?;
        let signed_at = whole_seconds(timestamp)?;
        let mut readable = false;
        for key in &self.keys {
            let state = key
                .clone()
                .chain_update(id)
                .chain_update(".")
                .chain_update(signed_at.to_string())
                .chain_update(".")
                .chain_update(body);
            for mac in signatures(signature) {
                readable = true;
                // `verify_slice` compares in constant time.
                if state.clone().verify_slice(&mac).is_ok() {
                    // Looked at last: that a clock is wrong can only be told by somebody who has the secret.
                    require_fresh(signed_at, now)?;
                    return Ok(Verified {
                        id,
                        signed_at,
                        body,
                    });
                }
            }
        }
        Err(if readable {
            SignatureError::Mismatch
        } else {
            SignatureError::UnreadableSignature
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("secrets", &self.keys.len())
            .finish()
    }
}

fn present(header: Option<&[u8]>) -> Option<&[u8]> {
    header.filter(|value| !value.is_empty())
}

fn whole_seconds(timestamp: &[u8]) -> Result<i64, SignatureError> {
    let unreadable = SignatureError::UnreadableTimestamp;
    let text = str::from_utf8(timestamp).map_err(|_| unreadable)?;
    let seconds: f64 = text.parse().map_err(|_| unreadable)?;
    if !seconds.is_finite() {
        return Err(unreadable);
    }
    Ok(seconds.floor() as i64)
}

/// Both in whole seconds, so that a delivery exactly at the edge is inside it.
fn require_fresh(signed_at: i64, now: DateTime<Utc>) -> Result<(), SignatureError> {
    let ahead = signed_at.saturating_sub(now.timestamp());
    if ahead < -TOLERANCE_SECONDS {
        return Err(SignatureError::TooOld);
    }
    if ahead > TOLERANCE_SECONDS {
        return Err(SignatureError::TooNew);
    }
    Ok(())
}

/// The signatures in the header that could be ours. Tokens of other versions or with bad base64
/// are left out, not errors: another may match.
fn signatures(header: &[u8]) -> impl Iterator<Item = [u8; 32]> {
    header
        .split(u8::is_ascii_whitespace)
        .filter_map(|token| token.strip_prefix(b"v1,"))
        .filter_map(|text| STANDARD.decode(text).ok())
        .filter_map(|bytes| bytes.try_into().ok())
}
