//! One call as data: which operation, for what, with which body.
//!
//! A route is written once, as Polar's documentation writes it, trailing slash included: the wrong
//! slash is answered with a redirect that loses the body. Values are put into their
//! placeholders one path segment each, percent-encoded, so an external id can hold any character
//! and still reach no other route.

use std::{collections::BTreeMap, fmt};

use reqwest::{Method, Url};
use secrecy::SecretString;
use serde::{Serialize, de::IgnoredAny};

use crate::Error;

/// What was asked of Polar: the method and the route with its placeholders, never the ids of
/// people. Safe in logs, errors and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    verb: Verb,
    route: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

impl Operation {
    pub(crate) const fn get(route: &'static str) -> Self {
        Self {
            verb: Verb::Get,
            route,
        }
    }

    pub(crate) const fn post(route: &'static str) -> Self {
        Self {
            verb: Verb::Post,
            route,
        }
    }

    pub(crate) const fn patch(route: &'static str) -> Self {
        Self {
            verb: Verb::Patch,
            route,
        }
    }

    pub(crate) const fn delete(route: &'static str) -> Self {
        Self {
            verb: Verb::Delete,
            route,
        }
    }

    /// The HTTP method, in capitals.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self.verb {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }

    /// The route with placeholders, such as `/v1/customers/external/{external_id}`.
    #[must_use]
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// The scope that a token needs for it, such as `customers:read`; `None` for a route that is not
    /// known here. Polar takes a `write` scope for reading as well.
    #[must_use]
    pub fn scope(&self) -> Option<&'static str> {
        let reads = self.verb == Verb::Get;
        let either = |read, write| Some(if reads { read } else { write });
        let route = self.route.strip_prefix("/v1/")?;
        if route.contains("/members") {
            return either("members:read", "members:write");
        }
        match route.split('/').next()? {
            "benefit-grants" | "benefits" => either("benefits:read", "benefits:write"),
            "checkouts" => either("checkouts:read", "checkouts:write"),
            "customer-sessions" => Some("customer_sessions:write"),
            "customers" => either("customers:read", "customers:write"),
            "discounts" => either("discounts:read", "discounts:write"),
            "events" => either("events:read", "events:write"),
            "members" => either("members:read", "members:write"),
            // To have an invoice made, reading is enough.
            "orders" => Some("orders:read"),
            "organizations" => either("organizations:read", "organizations:write"),
            "products" => either("products:read", "products:write"),
            "subscriptions" => either("subscriptions:read", "subscriptions:write"),
            "webhooks" => either("webhooks:read", "webhooks:write"),
            _ => None,
        }
    }

    /// Whether it changes nothing at Polar.
    pub(crate) fn only_reads(self) -> bool {
        self.verb == Verb::Get
    }

    pub(crate) fn http_method(self) -> Method {
        match self.verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.route)
    }
}

/// A call ready to be sent.
pub(crate) struct Call {
    pub(crate) operation: Operation,
    arguments: Vec<String>,
    query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
    /// A customer session's, in place of ours.
    pub(crate) token: Option<SecretString>,
}

impl Call {
    pub(crate) fn new(operation: Operation) -> Self {
        Self {
            operation,
            arguments: Vec::new(),
            query: Vec::new(),
            body: None,
            token: None,
        }
    }

    /// The value of the next placeholder.
    pub(crate) fn argument(mut self, value: impl ToString) -> Self {
        self.arguments.push(value.to_string());
        self
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl ToString) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    pub(crate) fn token(mut self, token: SecretString) -> Self {
        self.token = Some(token);
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body)
            .expect("request bodies are structs of ours with text keys, which always encode");
        self.body = Some(bytes);
        self
    }

    /// The names of the fields in the body, for people; never their values.
    pub(crate) fn fields(&self) -> String {
        let body = self.body.as_deref().unwrap_or_default();
        let fields: BTreeMap<String, IgnoredAny> = serde_json::from_slice(body).unwrap_or_default();
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        names.join(", ")
    }

    /// The full address below `base`. Empty text and the dot segments cannot be addressed: any
    /// URL parser on the way would turn them into another route.
    pub(crate) fn url(&self, base: &Url) -> Result<Url, Error> {
        let mut arguments = self.arguments.iter();
        let mut url = base.clone();
        {
            let mut path = url
                .path_segments_mut()
                .expect("the base is http or https, checked when the client is built");
            path.pop_if_empty();
            for segment in self.operation.route.split('/').skip(1) {
                if !segment.starts_with('{') {
                    path.push(segment);
                    continue;
                }
                let value = arguments.next().expect("each placeholder has its argument");
                if matches!(value.as_str(), "" | "." | "..") {
                    return Err(Error::Unaddressable {
                        operation: self.operation,
                    });
                }
                path.push(value);
            }
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    const MEMBER: Operation =
        Operation::get("/v1/customers/external/{external_id}/members/{member_external_id}");

    #[test]
    fn an_external_id_stays_one_segment_whatever_it_holds() {
        let call = Call::new(MEMBER).argument("a/../b?c#d%").argument("blå ☕");
        let url = call.url(&Url::parse("http://h:1").unwrap()).unwrap();
        assert_eq!(
            url.as_str(),
            "http://h:1/v1/customers/external/a%2F..%2Fb%3Fc%23d%25/members/bl%C3%A5%20%E2%98%95"
        );
    }

    #[test]
    fn the_trailing_slash_and_the_path_of_the_base_are_kept() {
        let call = Call::new(Operation::get("/v1/customers/")).query("limit", 100);
        for base in ["https://h/polar", "https://h/polar/"] {
            let url = call.url(&Url::parse(base).unwrap()).unwrap();
            assert_eq!(url.as_str(), "https://h/polar/v1/customers/?limit=100");
        }
    }

    #[test]
    fn the_scope_follows_from_the_resource_and_from_whether_it_is_changed() {
        for (operation, scope) in [
            (MEMBER, "members:read"),
            (
                Operation::post("/v1/customers/{id}/members"),
                "members:write",
            ),
            (Operation::get("/v1/members/"), "members:read"),
            (Operation::delete("/v1/customers/{id}"), "customers:write"),
            (Operation::get("/v1/benefit-grants/"), "benefits:read"),
            (Operation::post("/v1/events/ingest"), "events:write"),
            (
                Operation::post("/v1/customer-sessions/"),
                "customer_sessions:write",
            ),
        ] {
            assert_eq!(operation.scope(), Some(scope), "{operation}");
        }
        assert_eq!(Operation::get("/v1/news/").scope(), None);
    }

    #[test]
    fn ids_that_would_change_the_route_are_refused() {
        for id in ["", ".", ".."] {
            let call = Call::new(MEMBER).argument(id).argument("m");
            let refused = call.url(&Url::parse("http://h").unwrap());
            assert!(
                matches!(refused, Err(Error::Unaddressable { .. })),
                "{id:?}"
            );
        }
    }
}
