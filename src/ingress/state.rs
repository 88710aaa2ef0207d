//! What every request shares.

use std::sync::Arc;

use polar::webhook::Verifier;
use secrecy::SecretString;

use super::accept::Acceptor;
use super::body::BodyBudget;
use super::refused::RefusedDeliveries;

/// See the module.
pub(super) struct IngressState {
    /// Knows the secrets of deliveries.
    pub(super) verifier: Verifier,
    /// Who may post changes; nobody without it.
    pub(super) app_token: Option<SecretString>,
    /// The way into the table.
    pub(super) acceptor: Acceptor,
    /// Memory for bodies of deliveries, which anybody may send.
    pub(super) delivery_bodies: BodyBudget,
    /// Memory for bodies of changes, which only the application sends.
    pub(super) change_bodies: BodyBudget,
    /// Deliveries that fit no secret.
    pub(super) refused_deliveries: Arc<RefusedDeliveries>,
}
