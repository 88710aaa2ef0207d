//! A route is its method, its path and who may use it.

use crate::resources::call::{Call, Outcome};
use crate::world::store::Store;

/// What answers a route.
pub(crate) type Handler = fn(&mut Store, &Call) -> Outcome;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// An organization's access token.
    Organization,
    /// A member, with the token of a customer session.
    Member,
}

/// A route: method, path with `{}` for a value, the scopes of which one is needed, and what answers it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) caller: Caller,
    pub(crate) scopes: &'static [&'static str],
    pub(crate) handler: Handler,
}

impl Route {
    /// The values of its places, where the path is this route's.
    pub(crate) fn places(&self, path: &str) -> Option<Vec<String>> {
        let mut places = Vec::new();
        let (mut pattern, mut given) = (self.path.split('/'), path.split('/'));
        loop {
            match (pattern.next(), given.next()) {
                (None, None) => return Some(places),
                (Some("{}"), Some(value)) if !value.is_empty() => places.push(decode(value)),
                (Some(wanted), Some(value)) if wanted == value => {}
                _ => return None,
            }
        }
    }
}

/// Percent-decodes one path segment.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code.filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
