//! What every request at the front door shares.

use polar::webhook::Verifier;
use secrecy::SecretString;

use super::accept::Acceptor;

/// See the module.
pub(super) struct Door {
    /// Knows the secrets of deliveries.
    pub(super) verifier: Verifier,
    /// Who may tell changes; nobody without it.
    pub(super) app_token: Option<SecretString>,
    /// The way into the table.
    pub(super) acceptor: Acceptor,
}
