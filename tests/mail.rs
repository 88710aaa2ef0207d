//! Mail as people get it: through a real mail server over TCP, about a local Polar, from changes and deliveries over HTTP.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "mail/command_line.rs"]
mod command_line;
#[path = "mail/contacts.rs"]
mod contacts;
#[path = "mail/encryption.rs"]
mod encryption;
#[path = "../private-postgres/tests/postgres/free_port.rs"]
mod free_port;
#[path = "mail/invoices.rs"]
mod invoices;
#[path = "mail/killed.rs"]
mod killed;
#[path = "local_polar/mod.rs"]
mod local_polar;
#[path = "mail/mail_server.rs"]
mod mail_server;
#[path = "mail/occasions.rs"]
mod occasions;
#[path = "mail/orders.rs"]
mod orders;
#[path = "mail/outages.rs"]
mod outages;
#[path = "mail/restored.rs"]
mod restored;
#[path = "mail/servers.rs"]
mod servers;
#[path = "mail/snapshots.rs"]
mod snapshots;
#[path = "mail/subscriptions.rs"]
mod subscriptions;
#[path = "mail/test_app.rs"]
mod test_app;
#[path = "wait/mod.rs"]
mod wait;
#[path = "mail/worker_process.rs"]
mod worker_process;
