//! One table says which paths exist, with their slashes and scopes.

use crate::http::route::{Caller, Handler, Route};
use crate::resources::{
    benefits, checkouts, customers, discounts, events, grants, members, orders, organizations,
    portal, portal_grants, products, sessions, subscriptions, webhook_deliveries,
    webhook_endpoints,
};

const fn route(
    method: &'static str,
    path: &'static str,
    scopes: &'static [&'static str],
    handler: Handler,
) -> Route {
    Route {
        method,
        path,
        caller: Caller::Organization,
        scopes,
        handler,
    }
}

const fn portal_route(method: &'static str, path: &'static str, handler: Handler) -> Route {
    Route {
        method,
        path,
        caller: Caller::Member,
        scopes: &[],
        handler,
    }
}

const CUSTOMERS_READ: &[&str] = &["customers:read", "customers:write"];
const CUSTOMERS_WRITE: &[&str] = &["customers:write"];
const MEMBERS_READ: &[&str] = &["members:read", "members:write"];
const MEMBERS_WRITE: &[&str] = &["members:write"];
const SUBSCRIPTIONS_READ: &[&str] = &["subscriptions:read", "subscriptions:write"];
const SUBSCRIPTIONS_WRITE: &[&str] = &["subscriptions:write"];
const PRODUCTS_READ: &[&str] = &["products:read", "products:write"];
const PRODUCTS_WRITE: &[&str] = &["products:write"];
const BENEFITS_READ: &[&str] = &["benefits:read", "benefits:write"];
const BENEFITS_WRITE: &[&str] = &["benefits:write"];
const ORDERS_READ: &[&str] = &["orders:read"];
const EVENTS_READ: &[&str] = &["events:read", "events:write"];
const EVENTS_WRITE: &[&str] = &["events:write"];
const DISCOUNTS_READ: &[&str] = &["discounts:read", "discounts:write"];
const DISCOUNTS_WRITE: &[&str] = &["discounts:write"];
const WEBHOOKS_READ: &[&str] = &["webhooks:read", "webhooks:write"];
const WEBHOOKS_WRITE: &[&str] = &["webhooks:write"];

/// All routes. The first of several with one path names the method that a 405 allows.
pub(crate) const ROUTES: &[Route] = &[
    route("GET", "/v1/customers/", CUSTOMERS_READ, customers::list),
    route("POST", "/v1/customers/", CUSTOMERS_WRITE, customers::create),
    route(
        "GET",
        "/v1/customers/external/{}",
        CUSTOMERS_READ,
        customers::get_external,
    ),
    route(
        "PATCH",
        "/v1/customers/external/{}",
        CUSTOMERS_WRITE,
        customers::patch_external,
    ),
    route(
        "DELETE",
        "/v1/customers/external/{}",
        CUSTOMERS_WRITE,
        customers::delete_external,
    ),
    route(
        "GET",
        "/v1/customers/external/{}/state",
        CUSTOMERS_READ,
        customers::state_external,
    ),
    route(
        "POST",
        "/v1/customers/external/{}/members",
        MEMBERS_WRITE,
        members::create_external,
    ),
    route(
        "GET",
        "/v1/customers/external/{}/members/{}",
        MEMBERS_READ,
        members::get_external,
    ),
    route(
        "PATCH",
        "/v1/customers/external/{}/members/{}",
        MEMBERS_WRITE,
        members::patch_external,
    ),
    route(
        "DELETE",
        "/v1/customers/external/{}/members/{}",
        MEMBERS_WRITE,
        members::delete_external,
    ),
    route(
        "POST",
        "/v1/customers/{}/members",
        MEMBERS_WRITE,
        members::create,
    ),
    route("GET", "/v1/customers/{}", CUSTOMERS_READ, customers::get),
    route(
        "PATCH",
        "/v1/customers/{}",
        CUSTOMERS_WRITE,
        customers::patch,
    ),
    route(
        "DELETE",
        "/v1/customers/{}",
        CUSTOMERS_WRITE,
        customers::delete,
    ),
    route("GET", "/v1/members/", MEMBERS_READ, members::list),
    route(
        "DELETE",
        "/v1/customers/{}/members/{}",
        MEMBERS_WRITE,
        members::delete,
    ),
    route("GET", "/v1/products/", PRODUCTS_READ, products::list),
    route("POST", "/v1/products/", PRODUCTS_WRITE, products::create),
    route("GET", "/v1/products/{}", PRODUCTS_READ, products::get),
    route("PATCH", "/v1/products/{}", PRODUCTS_WRITE, products::patch),
    route(
        "POST",
        "/v1/products/{}/benefits",
        PRODUCTS_WRITE,
        products::set_benefits,
    ),
    route(
        "GET",
        "/v1/benefits/",
        BENEFITS_READ,
        benefits::list_benefits,
    ),
    route(
        "POST",
        "/v1/benefits/",
        BENEFITS_WRITE,
        benefits::create_benefit,
    ),
    route(
        "GET",
        "/v1/benefits/{}",
        BENEFITS_READ,
        benefits::get_benefit,
    ),
    route(
        "PATCH",
        "/v1/benefits/{}",
        BENEFITS_WRITE,
        benefits::patch_benefit,
    ),
    route("GET", "/v1/benefit-grants/", BENEFITS_READ, grants::list),
    route(
        "GET",
        "/v1/subscriptions/",
        SUBSCRIPTIONS_READ,
        subscriptions::list,
    ),
    route(
        "POST",
        "/v1/subscriptions/",
        SUBSCRIPTIONS_WRITE,
        subscriptions::create,
    ),
    route(
        "GET",
        "/v1/subscriptions/{}",
        SUBSCRIPTIONS_READ,
        subscriptions::get,
    ),
    route(
        "PATCH",
        "/v1/subscriptions/{}",
        SUBSCRIPTIONS_WRITE,
        subscriptions::patch,
    ),
    route(
        "DELETE",
        "/v1/subscriptions/{}",
        SUBSCRIPTIONS_WRITE,
        subscriptions::delete,
    ),
    route("GET", "/v1/orders/", ORDERS_READ, orders::list),
    route("GET", "/v1/orders/{}", ORDERS_READ, orders::get),
    route(
        "GET",
        "/v1/orders/{}/invoice",
        ORDERS_READ,
        orders::get_invoice,
    ),
    route(
        "POST",
        "/v1/orders/{}/invoice",
        ORDERS_READ,
        orders::create_invoice,
    ),
    route("GET", "/v1/events/", EVENTS_READ, events::list),
    route("POST", "/v1/events/ingest", EVENTS_WRITE, events::ingest),
    route(
        "POST",
        "/v1/customer-sessions/",
        &["customer_sessions:write"],
        sessions::create,
    ),
    route(
        "POST",
        "/v1/checkouts/",
        &["checkouts:write"],
        checkouts::create,
    ),
    route("POST", "/v1/discounts/", DISCOUNTS_WRITE, discounts::create),
    route("GET", "/v1/discounts/{}", DISCOUNTS_READ, discounts::get),
    route(
        "DELETE",
        "/v1/discounts/{}",
        DISCOUNTS_WRITE,
        discounts::delete,
    ),
    route(
        "GET",
        "/v1/webhooks/endpoints",
        WEBHOOKS_READ,
        webhook_endpoints::list,
    ),
    route(
        "POST",
        "/v1/webhooks/endpoints",
        WEBHOOKS_WRITE,
        webhook_endpoints::create,
    ),
    route(
        "GET",
        "/v1/webhooks/endpoints/{}",
        WEBHOOKS_READ,
        webhook_endpoints::get,
    ),
    route(
        "PATCH",
        "/v1/webhooks/endpoints/{}",
        WEBHOOKS_WRITE,
        webhook_endpoints::patch,
    ),
    route(
        "DELETE",
        "/v1/webhooks/endpoints/{}",
        WEBHOOKS_WRITE,
        webhook_endpoints::delete,
    ),
    route(
        "PATCH",
        "/v1/webhooks/endpoints/{}/secret",
        WEBHOOKS_WRITE,
        webhook_endpoints::reset_secret,
    ),
    route(
        "GET",
        "/v1/webhooks/deliveries",
        WEBHOOKS_READ,
        webhook_deliveries::list,
    ),
    route(
        "POST",
        "/v1/webhooks/events/{}/redeliver",
        WEBHOOKS_WRITE,
        webhook_deliveries::redeliver,
    ),
    route(
        "GET",
        "/v1/organizations/",
        &["organizations:read", "organizations:write"],
        organizations::list,
    ),
    route(
        "GET",
        "/v1/organizations/{}",
        &["organizations:read", "organizations:write"],
        organizations::get,
    ),
    portal_route(
        "GET",
        "/v1/customer-portal/customers/me",
        portal::get_customer,
    ),
    portal_route(
        "PATCH",
        "/v1/customer-portal/customers/me",
        portal::patch_customer,
    ),
    portal_route(
        "GET",
        "/v1/customer-portal/customers/me/payment-methods",
        portal::list_payment_methods,
    ),
    portal_route(
        "DELETE",
        "/v1/customer-portal/customers/me/payment-methods/{}",
        portal::delete_payment_method,
    ),
    portal_route(
        "GET",
        "/v1/customer-portal/benefit-grants/",
        portal_grants::list,
    ),
    portal_route(
        "PATCH",
        "/v1/customer-portal/benefit-grants/{}",
        portal_grants::patch,
    ),
];
