//! The description of the API, made from the handlers' own types, so that it cannot say anything else
//! than they do.

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, PathItem, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{Modify, OpenApi};

use super::error::{ErrorBody, ValidationErrorBody};
use super::subscription::{self, checkout, claim};
use super::{benefit_grants, billing_details, customer_session, orders, payment_methods, plans};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Organizations API",
        description = "What an application's billing page needs: plans, subscription, orders, billing details and means of payment of one organization.",
        version = "1",
    ),
    paths(
        plans::list,
        subscription::get,
        checkout::create,
        subscription::change_plan,
        subscription::cancel,
        claim::claim,
        orders::list,
        orders::invoice,
        billing_details::get,
        billing_details::update,
        payment_methods::list,
        payment_methods::delete,
        payment_methods::set_default,
        customer_session::create,
        benefit_grants::list,
        benefit_grants::invite,
    ),
    components(schemas(ErrorBody, ValidationErrorBody)),
    modifiers(&Common),
)]
struct Api;

/// What all routes have in common: who may call, and how they are refused.
struct Common;

/// Refusals that every route knows.
const REFUSALS: [(&str, &str); 6] = [
    ("400", "A header is wrong"),
    (
        "401",
        "The token is missing or wrong, or the route is for persons only",
    ),
    (
        "403",
        "Your role, or the organization's status, does not allow it",
    ),
    (
        "404",
        "Not found, or not yours, or billing is not configured",
    ),
    ("502", "Polar's answer cannot be used"),
    (
        "503",
        "Polar is slow, down or busy: ask again after `Retry-After` seconds",
    ),
];
/// A further one of routes that change something, or act as a person whom Polar may not know yet.
const NOT_NOW: (&str, &str) = (
    "409",
    "It cannot be done now; with `Retry-After` it can soon",
);
/// A further one of routes that read a body.
const TOO_LARGE: (&str, &str) = ("413", "The body is larger than 64 KiB");
/// POST, but no mutation: each request begins another session, and none is kept to be the answer of the next one.
const BEGINS_A_SESSION: &str = "/v1/organizations/{organization_id}/customer-session";
/// The tag of routes that act as a person.
const AS_PERSON: &str = "Customer portal";

/// Headers that routes take.
const ON_BEHALF_OF: (&str, &str) = (
    "On-Behalf-Of",
    "Beside the application's token: the id of the person that it speaks for",
);
const IDEMPOTENCY_KEY: (&str, &str) = (
    "Idempotency-Key",
    "The same key gets the first answer again for a day",
);

impl Modify for Common {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        api.components
            .get_or_insert_with(Components::new)
            .add_security_scheme("bearer", bearer);
        for (path, item) in &mut api.paths.paths {
            for (operation, is_mutation) in operations(item) {
                describe(operation, is_mutation && path != BEGINS_A_SESSION);
            }
        }
    }
}

/// The operations of a path, and whether each has a method that changes something.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&mut Operation, bool)> {
    [
        (item.get.as_mut(), false),
        (item.post.as_mut(), true),
        (item.patch.as_mut(), true),
        (item.delete.as_mut(), true),
    ]
    .into_iter()
    .filter_map(|(operation, changes)| Some((operation?, changes)))
}

fn describe(operation: &mut Operation, is_mutation: bool) {
    operation.security = Some(vec![utoipa::openapi::SecurityRequirement::new(
        "bearer",
        Vec::<String>::new(),
    )]);
    let headers = [ON_BEHALF_OF]
        .into_iter()
        .chain(is_mutation.then_some(IDEMPOTENCY_KEY));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.extend(headers.map(|(name, words)| RefOr::T(header(name, words))));
    let tags = operation.tags.iter().flatten();
    let as_person = tags.into_iter().any(|tag| tag == AS_PERSON);
    let reads_body = operation.request_body.is_some();
    let not_now = (is_mutation || as_person).then_some(NOT_NOW);
    let too_large = reads_body.then_some(TOO_LARGE);
    for (status, words) in REFUSALS.into_iter().chain(not_now).chain(too_large) {
        add(operation, status, refusal(words, "ErrorBody"));
    }
    let pages = operation
        .parameters
        .iter()
        .flatten()
        .any(|parameter| matches!(parameter, RefOr::T(p) if p.name == "limit"));
    if reads_body || pages {
        let words = "Fields are wrong, or what is asked for is refused";
        add(operation, "422", refusal(words, "ValidationErrorBody"));
    }
}

fn header(name: &str, words: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(words))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn add(operation: &mut Operation, status: &str, response: Response) {
    let responses = &mut operation.responses.responses;
    responses
        .entry(status.to_owned())
        .or_insert(RefOr::T(response));
}

fn refusal(words: &str, schema: &str) -> Response {
    let body = ContentBuilder::new()
        .schema(Some(RefOr::Ref(Ref::from_schema_name(schema))))
        .build();
    ResponseBuilder::new()
        .description(words)
        .content("application/json", body)
        .build()
}

/// The description as it is served and kept in `docs/openapi.json`.
#[must_use]
pub fn document() -> String {
    let mut text = Api::openapi()
        .to_pretty_json()
        .expect("the description holds text keys only, which always encode");
    text.push('\n');
    text
}
