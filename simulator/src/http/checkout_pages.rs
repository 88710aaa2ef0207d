//! Between an application's link to a checkout and its return address a person chooses, pays or is declined, and goes
//! back. Here that is a page to click through, by hand or by a browser in a test.

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use uuid::Uuid;

use crate::http::shared::Shared;
use crate::world::confirmation::{CARDS, ConfirmError};
use crate::world::model::Checkout;
use crate::world::store::Store;

/// The page may style itself and be sent back; nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'";
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:3rem auto;padding:0 1rem}\
    fieldset{border:1px solid #8888;border-radius:.5rem;margin:1rem 0}label{display:block;padding:.3rem 0}\
    button{font:inherit;padding:.6rem 1.4rem}.error{color:#b00020}.total{font-size:1.4rem}";

/// Answers a request below `/checkout/`.
pub(crate) fn handle(shared: &Shared, parts: &Parts, body: &Bytes) -> Response {
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let (secret, confirmed) = match path.as_slice() {
        [_, secret] => (*secret, false),
        [_, secret, "confirmation"] => (*secret, true),
        _ => return message(StatusCode::NOT_FOUND, "There is no such checkout."),
    };
    let store = &mut *shared.lock();
    let Some(row) = store.checkout_by_secret(secret).cloned() else {
        return message(StatusCode::NOT_FOUND, "There is no such checkout.");
    };
    match (parts.method.as_str(), row.status) {
        ("GET", "succeeded") if confirmed => message(StatusCode::OK, "Thank you, it is paid."),
        ("GET", "succeeded") => see_other(&after_payment(&row)),
        ("GET", "open") => page(store, &row, StatusCode::OK, None),
        ("POST", _) => pay(store, &row, body),
        _ => message(StatusCode::GONE, &ConfirmError::Expired.to_string()),
    }
}

/// The form was sent. A second click finds it paid and goes on like the first.
fn pay(store: &mut Store, row: &Checkout, body: &Bytes) -> Response {
    let form: Vec<(String, String)> = reqwest::Url::parse("http://form/")
        .map(|mut url| {
            url.set_query(std::str::from_utf8(body).ok());
            url.query_pairs().into_owned().collect()
        })
        .unwrap_or_default();
    let field = |name: &str| {
        let found = form.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let product = Uuid::parse_str(field("product")).ok();
    match store.confirm_checkout(row.id, product, field("card")) {
        Ok(()) => see_other(&after_payment(row)),
        Err(error) => {
            let status = match error {
                ConfirmError::Expired => StatusCode::GONE,
                ConfirmError::AlreadySubscribed => StatusCode::FORBIDDEN,
                ConfirmError::Declined => StatusCode::PAYMENT_REQUIRED,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            page(store, row, status, Some(error))
        }
    }
}

/// Where the application wants the buyer to go.
fn after_payment(row: &Checkout) -> String {
    let own = format!("/checkout/{}/confirmation", row.secret());
    let wanted = row.success_url.clone().unwrap_or(own);
    wanted.replace("{CHECKOUT_ID}", &row.id.to_string())
}

fn page(
    store: &Store,
    row: &Checkout,
    status: StatusCode,
    error: Option<ConfirmError>,
) -> Response {
    let error = error.map_or(String::new(), |error| {
        format!(
            "<p class=error role=alert>{}</p>",
            escape(&error.to_string())
        )
    });
    let back = row.return_url.as_deref().map_or(String::new(), |url| {
        format!("<p><a id=back href=\"{}\">Back</a></p>", escape(url))
    });
    let body = format!(
        "{error}<form method=post><fieldset><legend>Plan</legend>{}</fieldset>\
         <fieldset><legend>Card</legend>{}</fieldset><button id=pay>Pay</button></form>{back}",
        plans(store, row),
        cards()
    );
    html(status, &body)
}

/// The plans to choose from, with what each costs now and what it costs without the discount.
fn plans(store: &Store, row: &Checkout) -> String {
    let products = row.products.iter().filter_map(|id| store.products.get(*id));
    let plan = |(number, product): (usize, &crate::world::model::Product)| {
        let checked = if number == 0 { " checked" } else { "" };
        let due = dollars(store.amount(product.id, row.discount_id));
        let full = dollars(product.price_amount);
        let before = if due == full {
            String::new()
        } else {
            format!(" <s>{full}</s>")
        };
        format!(
            "<label><input type=radio name=product value={}{checked}> <b class=plan>{}</b> \
             <span class=total>{due}</span>{before} a {}</label>",
            product.id,
            escape(&product.name),
            escape(&product.interval)
        )
    };
    products.enumerate().map(plan).collect()
}

fn cards() -> String {
    let card = |(number, card): (usize, &crate::world::confirmation::TestCard)| {
        let checked = if number == 0 { " checked" } else { "" };
        format!(
            "<label><input type=radio name=card id=card-{0} value={0}{checked}> Visa ending in {0}: {1}</label>",
            card.last4, card.what
        )
    };
    CARDS.iter().enumerate().map(card).collect()
}

fn dollars(cents: i64) -> String {
    format!("${}.{:02}", cents / 100, cents % 100)
}

fn message(status: StatusCode, text: &str) -> Response {
    html(status, &format!("<p id=message>{}</p>", escape(text)))
}

fn html(status: StatusCode, body: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Checkout</title><link rel=icon href=data:,><style>{STYLE}</style>\
         <h1>Checkout</h1>{body}</html>"
    );
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    response
}

fn see_other(location: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(location) else {
        return message(StatusCode::OK, "Thank you, it is paid.");
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert("location", location);
    response
}

/// Names and addresses come from elsewhere: none of them becomes markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
