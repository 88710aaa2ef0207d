//! Why: a wrong slash is redirected and a wrong method refused as Polar does (R30, R31).

use crate::call::{Call, Outcome};
use crate::route_table::ROUTES;
use crate::store::Store;

/// What answers a route.
pub(crate) type Handler = fn(&mut Store, &Call) -> Outcome;

/// A route: method, path with `{}` for a value, the scopes of which one is needed, and what answers it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) scopes: &'static [&'static str],
    pub(crate) handler: Handler,
}

/// Where a request belongs.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here, with the values of its places.
    Route(&'static Route, Vec<String>),
    /// At this path, which differs by a slash.
    Elsewhere(String),
    /// The path exists, for this method.
    WrongMethod(&'static str),
    /// Nowhere.
    Nothing,
}

/// Finds the route of a request.
pub(crate) fn find(method: &str, path: &str) -> Found {
    let matching: Vec<(&Route, Vec<String>)> = ROUTES
        .iter()
        .filter_map(|route| Some((route, route.places(path)?)))
        .collect();
    if let Some((first, _)) = matching.first() {
        let allowed = first.method;
        let ours = matching
            .into_iter()
            .find(|(route, _)| route.method == method);
        return ours.map_or(Found::WrongMethod(allowed), |(route, places)| {
            Found::Route(route, places)
        });
    }
    let other = path
        .strip_suffix('/')
        .map_or_else(|| format!("{path}/"), str::to_owned);
    if ROUTES.iter().any(|route| route.places(&other).is_some()) {
        Found::Elsewhere(other)
    } else {
        Found::Nothing
    }
}

impl Route {
    fn places(&self, path: &str) -> Option<Vec<String>> {
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
