//! The routes.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};

use super::cors::cors;
use super::log::log;
use super::state::{ApiSettings, ApiState};
use super::subscription::{checkout, claim};
use super::{
    benefit_grants, billing_details, customer_session, openapi, orders, payment_methods, plans,
    subscription,
};

/// The routes of the organizations API, and its description at `/openapi.json`. Must be called within a
/// runtime.
pub fn router(settings: ApiSettings) -> Router {
    let state = ApiState::new(settings);
    let below = |path: &str| format!("/v1/organizations/{{organization_id}}{path}");
    let subscription_routes = get(subscription::get)
        .post(checkout::create)
        .patch(subscription::change_plan)
        .delete(subscription::cancel);
    let billing_details_routes = get(billing_details::get).patch(billing_details::update);
    Router::new()
        .route(&below("/plans"), get(plans::list))
        .route(&below("/subscription"), subscription_routes)
        .route(&below("/startup-program/claim"), post(claim::claim))
        .route(&below("/orders"), get(orders::list))
        .route(&below("/orders/{order_id}/invoice"), get(orders::invoice))
        .route(&below("/billing-details"), billing_details_routes)
        .route(&below("/payment-methods"), get(payment_methods::list))
        .route(
            &below("/payment-methods/{payment_method_id}"),
            delete(payment_methods::delete),
        )
        .route(
            &below("/payment-methods/{payment_method_id}/default"),
            post(payment_methods::set_default),
        )
        .route(&below("/customer-session"), post(customer_session::create))
        .route(&below("/benefit-grants"), get(benefit_grants::list))
        .route(
            &below("/benefit-grants/{grant_id}"),
            patch(benefit_grants::invite),
        )
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(log))
        .layer(from_fn_with_state(state.clone(), cors))
        .with_state(state)
        .merge(description())
}

/// The route exists, but not with this method; axum adds `Allow`.
async fn wrong_method() -> Response {
    let body = r#"{"error":"MethodNotAllowed","detail":"This route has another method."}"#;
    json(
        StatusCode::METHOD_NOT_ALLOWED,
        Bytes::from_static(body.as_bytes()),
    )
}

/// Written once, because it never changes while the process runs.
fn description() -> Router {
    let document = Bytes::from(openapi::document());
    let answer = move || std::future::ready(json(StatusCode::OK, document.clone()));
    Router::new().route("/openapi.json", get(answer))
}

fn json(status: StatusCode, body: Bytes) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}
