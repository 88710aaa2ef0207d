//! A wrong token, a missing scope, an unknown version and too many calls are each refused in Polar's own way
//!.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::options::Options;

/// Versions of the API that are served.
const VERSIONS: [&str; 2] = ["2026-04", "2026-10"];
/// Calls per minute of a token that Polar has not seen for a while.
const PENDING_LIMIT: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
const IDENTITY_CACHE: Duration = Duration::from_secs(300);

/// What the credentials of a request amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// None, or not a bearer token.
    Missing,
    /// A bearer token that nobody knows.
    Unknown,
    /// The session of a member: for the portal's routes and no others.
    Session,
    /// A known token.
    Known {
        /// It belongs to another organization.
        foreign: bool,
        /// `None` for all scopes.
        scopes: Option<Vec<String>>,
    },
}

/// Tokens and their call counts.
#[derive(Debug)]
pub(crate) struct Access {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tokens: HashMap<String, Credentials>,
    seen: HashMap<String, Duration>,
    windows: HashMap<String, (Duration, u32)>,
    limit: u32,
}

impl Access {
    /// One token with all scopes.
    pub(crate) fn new(options: &Options) -> Self {
        let all = Credentials::Known {
            foreign: false,
            scopes: None,
        };
        let tokens = HashMap::from([(options.access_token.clone(), all)]);
        let limit = options.rate_limit_per_minute;
        Self {
            inner: Mutex::new(Inner {
                tokens,
                seen: HashMap::new(),
                windows: HashMap::new(),
                limit,
            }),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a token known.
    pub(crate) fn add_token(&self, token: &str, credentials: Credentials) {
        self.with(|inner| inner.tokens.insert(token.to_owned(), credentials));
    }

    /// Makes a token unknown.
    pub(crate) fn revoke_token(&self, token: &str) {
        self.with(|inner| inner.tokens.remove(token));
    }

    /// Reads an `authorization` header.
    pub(crate) fn credentials(&self, authorization: Option<&str>) -> Credentials {
        let Some(token) = bearer(authorization) else {
            return Credentials::Missing;
        };
        if token.starts_with("polar_mst_") {
            return Credentials::Session;
        }
        self.with(|inner| {
            inner
                .tokens
                .get(token)
                .cloned()
                .unwrap_or(Credentials::Unknown)
        })
    }

    /// Counts a call; false when it is over the limit. The first call of a token, and every call of an unknown one,
    /// counts in a zone of its own; later ones in the organization's, shared by all its tokens.
    pub(crate) fn count(&self, authorization: Option<&str>, now: Duration) -> bool {
        let Some(token) = bearer(authorization) else {
            return true;
        };
        self.with(|inner| {
            let known = inner.tokens.get(token).cloned();
            let warm = inner
                .seen
                .get(token)
                .is_some_and(|seen| now < *seen + IDENTITY_CACHE);
            let (zone, limit) = match known {
                Some(Credentials::Known { foreign, .. }) if warm => {
                    (format!("organization {foreign}"), inner.limit)
                }
                _ => (format!("token {token}"), PENDING_LIMIT),
            };
            if known.is_some() {
                inner.seen.insert(token.to_owned(), now);
            }
            let window = inner.windows.entry(zone).or_insert((now, 0));
            if now >= window.0 + WINDOW {
                *window = (now, 0);
            }
            window.1 = window.1.saturating_add(1);
            window.1 <= limit
        })
    }
}

fn bearer(authorization: Option<&str>) -> Option<&str> {
    authorization.and_then(|header| {
        header
            .strip_prefix("Bearer ")
            .or_else(|| header.strip_prefix("bearer "))
    })
}

/// The version to answer with; `None` for an unknown one.
pub(crate) fn version(asked: Option<&str>) -> Option<&'static str> {
    match asked {
        None => Some(VERSIONS[0]),
        Some(asked) => VERSIONS.into_iter().find(|version| *version == asked),
    }
}
