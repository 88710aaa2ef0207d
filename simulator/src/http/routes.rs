//! A wrong slash is redirected and a wrong method refused as Polar does.

use crate::http::route::Route;
use crate::http::route_table::ROUTES;

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
