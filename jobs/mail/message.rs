//! One mail as bytes. They follow from the mail alone, so a repeated message is the same to the last byte.

use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};

use super::{Invoice, MailKey, MailerConfig, Rendered};

/// A mail, ready to be handed over.
pub(crate) struct Message {
    to: Address,
    bytes: Vec<u8>,
}

/// Everything that a message is made of.
pub(crate) struct Draft<'a> {
    pub(crate) key: &'a MailKey,
    pub(crate) message_id: &'a str,
    pub(crate) recipient: &'a str,
    /// When the mail was asked for; the same at every attempt.
    pub(crate) date: DateTime<Utc>,
    pub(crate) text: Rendered,
    pub(crate) invoice: Option<Invoice>,
}

impl Message {
    /// Puts a message together; `None` where the address is none that mail can be sent to.
    pub(crate) fn compose(config: &MailerConfig, draft: Draft<'_>) -> Option<Self> {
        let to = address(draft.recipient)?;
        let boundary = draft.key.digest();
        let texts = MultiPart::alternative()
            .boundary(format!("alternative-{boundary}"))
            .singlepart(SinglePart::plain(draft.text.text))
            .singlepart(SinglePart::html(draft.text.html));
        let mut parts = MultiPart::mixed()
            .boundary(format!("mixed-{boundary}"))
            .multipart(texts);
        if let Some(invoice) = draft.invoice {
            let pdf = ContentType::parse("application/pdf").expect("a constant that is a type");
            let name = format!("{}.pdf", file_name(&invoice.number));
            parts = parts.singlepart(Attachment::new(name).body(invoice.content, pdf));
        }
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mut builder = lettre::Message::builder()
            .from(config.from.0.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(draft.text.subject)
            .date(draft.date.into())
            .message_id(Some(draft.message_id.to_owned()))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
        if let Some(reply_to) = &config.reply_to {
            builder = builder.reply_to(reply_to.0.clone());
        }
        let message = builder.multipart(parts).ok()?;
        Some(Self {
            to,
            bytes: message.formatted(),
        })
    }

    pub(super) fn to(&self) -> &Address {
        &self.to
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The address as every server takes it: an international domain in its ASCII form. A local part beyond ASCII
/// would need an extension that few servers have.
fn address(text: &str) -> Option<Address> {
    let (local, domain) = text.rsplit_once('@')?;
    if !local.is_ascii() {
        return None;
    }
    Address::new(local, idna::domain_to_ascii(domain).ok()?).ok()
}

/// Polar makes the number; a file's name must not lead elsewhere whatever it holds.
fn file_name(number: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = number
        .chars()
        .map(|c| if safe(c) { c } else { '-' })
        .collect();
    match name.trim_matches('.') {
        "" => "invoice".to_owned(),
        name => name.to_owned(),
    }
}
