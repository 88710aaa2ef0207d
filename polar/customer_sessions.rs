//! Customer sessions: how one member of a customer acts at Polar.

use std::fmt;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Client, Error, Operation, call::Call};

const CREATE: Operation = Operation::post("/v1/customer-sessions/");

#[derive(Serialize)]
struct NewSession<'a> {
    external_customer_id: &'a str,
    external_member_id: &'a str,
}

/// A session. Polar's answer also carries an address with the token and the member's mail address in it,
/// which is not even read (docs/polar-facts.md#customer-session).
#[derive(Clone, Deserialize)]
pub struct CustomerSession {
    /// What the member calls the customer portal with, for about an hour.
    #[serde(deserialize_with = "secret")]
    pub token: SecretString,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

impl fmt::Debug for CustomerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerSession")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The operations on customer sessions; see [`Client::customer_sessions`].
#[derive(Clone, Copy)]
pub struct CustomerSessions<'a>(pub(crate) &'a Client);

impl CustomerSessions<'_> {
    /// Begins a session of one member of a team, both named by our ids.
    ///
    /// # Errors
    /// `Invalid` when Polar does not know the customer or the member (422, not 404; docs/polar-facts.md#customer-session).
    pub async fn create(
        self,
        external_customer_id: &str,
        external_member_id: &str,
    ) -> Result<CustomerSession, Error> {
        let session = NewSession {
            external_customer_id,
            external_member_id,
        };
        self.0.fetch(Call::new(CREATE).json(&session)).await
    }
}
