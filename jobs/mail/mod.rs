//! Mail to the people who manage an organization's billing.
//!
//! What is mailed is decided by the jobs `send_order_email` and `send_subscription_email`, on what Polar says
//! when they run. Either writes one row of `mails` per recipient and occasion ([`crate::mirror::mails`]), and
//! one job `send_email` per row hands it to the transport. The row's key is unique, so an occasion that is repeated
//! gives no second mail; its `Message-ID` follows from the key, so that a message which had to be
//! sent again after a lost answer can be recognised as the same.
//!
//! [`Template`] and [`MailData`] are what a mail says, [`NewMail`] is one that is asked for, [`Mailer`] takes
//! it away.

mod data;
mod format;
mod invoice;
mod key;
mod mailer;
mod message;
mod recipients;
mod render;
mod smtp;
mod template;

pub use data::{MailData, Money};
pub use invoice::Invoice;
pub use key::{MailKey, NewMail};
pub use mailer::{Mailer, MailerConfig, Security, Sender, SmtpServer, Transport};
pub use render::{Links, Rendered, render};
pub use template::Template;

pub(crate) use invoice::{INVOICE_DEADLINE, Invoicing, prepare as prepare_invoice};
pub(crate) use mailer::{Connection, SendError};
pub(crate) use message::{Draft, Message};
pub(crate) use recipients::billing_contacts;
