//! Who calls: the application's server, its server on behalf of a person, or a person's browser.

use axum::http::{HeaderMap, header};
use jobs::types::UserId;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::error::Refusal;
use super::state::ApiState;

/// With the application's token: whom the server speaks for.
const ON_BEHALF_OF: &str = "on-behalf-of";

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The application's server, for itself.
    Application,
    /// A person, through the server.
    Represented(UserId),
    /// A person's browser.
    Person(UserId),
}

impl Caller {
    /// Returns who calls.
    ///
    /// # Errors
    /// The same for every token that is missing or wrong in any way.
    pub(super) fn read(state: &ApiState, headers: &HeaderMap) -> Result<Self, Refusal> {
        if state.app_token.is_none() && state.sessions.is_none() {
            return Err(Refusal::NoCallers);
        }
        let token = bearer(headers).ok_or(Refusal::Unauthorized)?;
        if state
            .app_token
            .as_ref()
            .is_some_and(|app| is_equal(app, token))
        {
            return Ok(on_behalf_of(headers)?.map_or(Self::Application, Self::Represented));
        }
        let person = state.sessions.as_ref().and_then(|s| s.verify(token));
        let person = person.ok_or(Refusal::Unauthorized)?;
        if headers.contains_key(ON_BEHALF_OF) {
            return Err(Refusal::BadOnBehalfOf);
        }
        Ok(Self::Person(person))
    }

    /// The person, if it is one.
    pub(super) fn person(self) -> Option<UserId> {
        match self {
            Self::Application => None,
            Self::Represented(person) | Self::Person(person) => Some(person),
        }
    }

    /// Whether the request comes from where the person is, and not from where the application's server is.
    pub(super) fn is_browser(self) -> bool {
        matches!(self, Self::Person(_))
    }
}

/// The credentials of the one `Authorization: Bearer` header (RFC 9110, 11.1: the scheme's case does not matter).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Takes as long for a nearly right token as for a wrong one of the same length.
fn is_equal(expected: &SecretString, given: &[u8]) -> bool {
    given.ct_eq(expected.expose_secret().as_bytes()).into()
}

fn on_behalf_of(headers: &HeaderMap) -> Result<Option<UserId>, Refusal> {
    let mut given = headers.get_all(ON_BEHALF_OF).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let user = value.to_str().ok().and_then(UserId::parse);
    match (user, given.next()) {
        (Some(user), None) => Ok(Some(user)),
        _ => Err(Refusal::BadOnBehalfOf),
    }
}
