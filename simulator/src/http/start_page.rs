//! People open the address that a program printed. The page says what is here, and what is in it.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::response::Response;

use crate::http::control_routes::CONTROL_ROUTES;
use crate::http::shared::Shared;
use crate::world::store::Store;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>A local Polar</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
code { font-size: .9em; }
</style>
<h1>A local Polar</h1>
<p>This is polar-jobs' simulator: Polar's API below <code>/v1/</code>, with state that ends with the process. From a shell,
<code>polar-jobs simulator --help</code> says what can be made to happen here.</p>
"#;

/// How many customers and deliveries are shown, the newest first.
const SHOWN: usize = 25;

/// The page.
pub(crate) fn show(shared: &Shared) -> Response {
    let mut page = HEAD.to_owned();
    {
        let store = shared.lock();
        let failing = shared.outages.failing().join(", ");
        let _written = writeln!(
            page,
            "<p>The clock says {}. Faults: {}. Failing: {}.</p>",
            store.now().format("%Y-%m-%d %H:%M:%S UTC"),
            escaped(&store.outbox.faults.to_string()),
            if failing.is_empty() {
                "nobody".to_owned()
            } else {
                escaped(&failing)
            },
        );
        customers(&mut page, &store);
        deliveries(&mut page, &store);
    }
    routes(&mut page);
    let mut response = Response::new(Body::from(page));
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    );
    response
}

fn customers(page: &mut String, store: &Store) {
    let rows: Vec<[String; 4]> = store
        .customers
        .iter()
        .rev()
        .take(SHOWN)
        .map(|row| {
            let newest = store
                .subscriptions
                .iter()
                .rev()
                .find(|one| one.customer_id == row.id);
            let plan = newest.map_or_else(String::new, |one| {
                let product = store.products.get(one.product_id);
                let name = product.map_or("", |product| product.name.as_str());
                format!("{name} {}", one.status)
            });
            let people = store.living_members(row.id).count();
            let name = row.name.clone().unwrap_or_default();
            let gone = if row.deleted_at.is_some() {
                " (deleted)"
            } else {
                ""
            };
            [
                format!("{name}{gone}"),
                row.external_id.clone().unwrap_or_default(),
                plan,
                people.to_string(),
            ]
        })
        .collect();
    table(
        page,
        "Customers",
        ["name", "external id", "newest subscription", "members"],
        &rows,
    );
}

fn deliveries(page: &mut String, store: &Store) {
    let rows: Vec<[String; 3]> = store
        .outbox
        .deliveries
        .iter()
        .rev()
        .take(SHOWN)
        .map(|row| {
            let record = crate::records::DeliveryRecord::from(row);
            [record.event_type, record.id.to_string(), record.state]
        })
        .collect();
    table(page, "Deliveries", ["event", "id", "state"], &rows);
}

fn routes(page: &mut String) {
    let rows: Vec<[String; 2]> = CONTROL_ROUTES
        .iter()
        .map(|route| {
            [
                format!("{} {}", route.method, route.path),
                route.what.to_owned(),
            ]
        })
        .collect();
    table(
        page,
        "Routes beside the API",
        ["route", "what it does"],
        &rows,
    );
}

fn table<const N: usize>(page: &mut String, title: &str, header: [&str; N], rows: &[[String; N]]) {
    let _written = writeln!(page, "<h2>{title}</h2>");
    if rows.is_empty() {
        page.push_str("<p>None yet.</p>\n");
        return;
    }
    let cells = |tag: &str, cells: &[String]| -> String {
        cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
            .collect()
    };
    let header = header.map(str::to_owned);
    let _written = write!(page, "<table>\n<tr>{}</tr>\n", cells("th", &header));
    for row in rows {
        let _written = writeln!(page, "<tr>{}</tr>", cells("td", row));
    }
    page.push_str("</table>\n");
}

/// What people typed never becomes markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
