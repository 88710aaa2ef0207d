//! Who did what by hand.
//!
//! A change by hand explains what no job and no event explains. So each one writes a row of
//! `operator_actions` in its own transaction: an action that fails leaves no row, and none happens
//! without one.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

/// Characters of an actor's name at most.
const MAX_NAME: usize = 200;

/// The person, or the program, that a change by hand is put down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

/// A name that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {MAX_NAME} characters, all of them printable")]
pub struct BadActor;

impl Actor {
    /// Returns the account that this process runs as, `unknown` where the system has no name for it.
    #[must_use]
    pub fn of_system() -> Self {
        whoami::username()
            .ok()
            .and_then(|name| name.parse().ok())
            .unwrap_or_else(|| Self("unknown".to_owned()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Actor {
    type Err = BadActor;

    fn from_str(text: &str) -> Result<Self, BadActor> {
        let name = text.trim();
        let usable = !name.is_empty()
            && name.chars().count() <= MAX_NAME
            && !name.chars().any(char::is_control);
        usable.then(|| Self(name.to_owned())).ok_or(BadActor)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One change by hand.
#[derive(Clone, Debug)]
pub struct OperatorAction {
    action: &'static str,
    target: String,
    organization: Option<Uuid>,
    detail: Value,
}

impl OperatorAction {
    /// `action`: the words of the command, such as `jobs retry`; `target`: what it is done to, such as
    /// `job/17`.
    #[must_use]
    pub fn new(action: &'static str, target: impl Into<String>) -> Self {
        Self {
            action,
            target: target.into(),
            organization: None,
            detail: json!({}),
        }
    }

    /// An action on an organization: its timeline shows it.
    #[must_use]
    pub fn on_organization(action: &'static str, organization: Uuid) -> Self {
        Self::new(action, format!("organization/{organization}")).about(Some(organization))
    }

    /// The same with the organization that the target belongs to.
    #[must_use]
    pub fn about(mut self, organization: Option<Uuid>) -> Self {
        self.organization = organization;
        self
    }

    /// The same with what else is worth knowing: ids and counts, never personal data.
    #[must_use]
    pub fn with(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }
}

/// Writes that `actor` did this, in the transaction that does it.
///
/// # Errors
/// If the database fails.
pub async fn record(
    connection: &mut PgConnection,
    actor: &Actor,
    action: &OperatorAction,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.operator_actions (actor, action, target, organization_id, detail)
         VALUES ($1, $2, $3, $4, $5)",
        actor.as_str(),
        action.action,
        action.target,
        action.organization,
        action.detail,
    )
    .execute(connection)
    .await?;
    Ok(())
}
