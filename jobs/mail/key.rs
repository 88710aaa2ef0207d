//! What makes two mails the same mail.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{MailData, Template};
use crate::types::OrganizationId;

/// A mail that is asked for: the same text for everybody who is to hear of an occasion.
#[derive(Clone, Debug)]
pub struct NewMail {
    /// The text.
    pub template: Template,
    /// The addresses, as Polar has them.
    pub recipients: Vec<String>,
    /// Whose matter it is.
    pub organization: Option<OrganizationId>,
    /// Polar's id of the order it is about.
    pub order: Option<Uuid>,
    /// Polar's id of the subscription it is about.
    pub subscription: Option<Uuid>,
    /// What tells one such mail from the next about the same order, subscription or organization: a moment, an
    /// id. Without personal data.
    pub occasion: String,
    /// What the text is filled with.
    pub data: MailData,
}

/// The unique key of a mail: template, subject, occasion and a digest of the recipient. The address itself is
/// not part of it, because keys stand in payloads of jobs and in logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailKey(String);

/// Hexadecimal digits of a digest that are kept: 64 bits tell the contacts of one customer apart, and 128 all
/// messages.
const RECIPIENT_DIGITS: usize = 16;
const MESSAGE_DIGITS: usize = 32;

impl NewMail {
    /// Returns the key of the mail to one recipient. The same address in another case is the same recipient.
    #[must_use]
    pub fn key_for(&self, recipient: &str) -> MailKey {
        let recipient = digest(&recipient.to_lowercase(), RECIPIENT_DIGITS);
        MailKey(format!("{}{recipient}", self.key_prefix()))
    }

    /// How the keys of all mails about this occasion begin, whoever gets them.
    pub(crate) fn key_prefix(&self) -> String {
        let subject = self
            .order
            .or(self.subscription)
            .or(self.organization.map(|organization| organization.0))
            .map_or_else(|| "nobody".to_owned(), |id| id.to_string());
        format!("{}/{subject}/{}/", self.template.name(), self.occasion)
    }
}

impl MailKey {
    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The `Message-ID` of every attempt to send this mail.
    #[must_use]
    pub(crate) fn message_id(&self, domain: &str) -> String {
        format!("<{}@{domain}>", self.digest())
    }

    /// A name for files.
    pub(super) fn digest(&self) -> String {
        digest(&self.0, MESSAGE_DIGITS)
    }
}

impl fmt::Display for MailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn digest(text: &str, digits: usize) -> String {
    let bytes = Sha256::digest(text.as_bytes());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..digits].to_owned()
}
