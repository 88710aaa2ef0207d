//! Lists of more than a page, also while others change them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{body::Body, http::Response};
use polar::{CustomerRef, Error};
use serde_json::{Value, json};

use crate::support::{Recording, Seen, Server, answer};

fn customer(number: usize) -> Value {
    json!({
        "id": format!("00000000-0000-4000-8000-{number:012}"),
        "created_at": "2026-11-21T00:52:16.205153Z",
        "external_id": number.to_string(),
    })
}

/// Serves `numbers` as Polar pages them.
fn page_of(request: &Seen, numbers: &[usize]) -> Response<Body> {
    let field = |key| request.query(key).unwrap().parse::<usize>().unwrap();
    let (page, limit) = (field("page"), field("limit").min(100));
    let items: Vec<_> = numbers
        .chunks(limit)
        .nth(page - 1)
        .unwrap_or_default()
        .to_vec();
    let body = json!({
        "items": items.into_iter().map(customer).collect::<Vec<_>>(),
        "pagination": {"total_count": numbers.len(), "max_page": numbers.len().div_ceil(limit)},
    });
    answer(200, &[], &body.to_string())
}

async fn fetched(count: usize) -> (Vec<String>, usize) {
    let server = Server::answering(move |request| {
        let response = page_of(&request, &(0..count).collect::<Vec<_>>());
        async move { response }
    })
    .await;
    let customers = server.client().customers().all().await.unwrap();
    let ids = customers
        .into_iter()
        .map(|customer| customer.external_id.unwrap())
        .collect();
    (ids, server.seen().len())
}

#[tokio::test]
async fn all_pages_are_read_and_not_one_more() {
    for (count, calls) in [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3), (300, 3)] {
        let (ids, made) = fetched(count).await;
        let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        assert_eq!(ids, expected, "{count}");
        assert_eq!(made, calls, "{count}");
    }
}

#[tokio::test]
async fn an_item_that_slips_to_the_next_page_is_taken_once() {
    let calls = Arc::new(AtomicUsize::new(0));
    let server = Server::answering(move |request| {
        // Before each later page, somebody puts a new item in front.
        let added = calls.fetch_add(1, Ordering::SeqCst);
        let numbers: Vec<_> = (1000..1000 + added).chain(0..150).collect();
        let response = page_of(&request, &numbers);
        async move { response }
    })
    .await;
    let customers = server.client().customers().all().await.unwrap();
    let ids: Vec<_> = customers
        .into_iter()
        .map(|c| c.external_id.unwrap())
        .collect();
    let expected: Vec<_> = (0..150).map(|number| number.to_string()).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_list_that_shrinks_meanwhile_ends() {
    let server = Server::answering(|request| {
        let numbers: Vec<_> = (0..150).collect();
        let last = request.query("page").unwrap() != "1";
        let recorded = Recording::named("page-beyond").answer.to_string();
        let response = if last {
            answer(200, &[], &recorded)
        } else {
            page_of(&request, &numbers)
        };
        async move { response }
    })
    .await;
    assert_eq!(server.client().customers().all().await.unwrap().len(), 100);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn one_page_says_how_many_there_are() {
    let server = Server::answering(|request| {
        let response = page_of(&request, &(0..250).collect::<Vec<_>>());
        async move { response }
    })
    .await;
    let page = server.client().customers().page(3).await.unwrap();
    assert_eq!(
        (page.items.len(), page.total_count(), page.max_page()),
        (50, 250, 3)
    );
    assert_eq!(
        server.only_request().path,
        "/v1/customers/?sorting=created_at&page=3&limit=100"
    );
}

#[tokio::test]
async fn filters_go_out_with_every_page() {
    let server = Server::answering(|_| async {
        answer(
            200,
            &[],
            r#"{"items": [], "pagination": {"total_count": 0, "max_page": 0}}"#,
        )
    })
    .await;
    let client = server.client();
    let id = "cbc9c941-1680-441a-abf7-6ba8408527bd"
        .parse::<uuid::Uuid>()
        .unwrap();
    client
        .benefit_grants()
        .active(CustomerRef::Id(id.into()))
        .await
        .unwrap();
    client.subscriptions().all("o&x".into()).await.unwrap();
    client
        .members()
        .all_with_role("o".into(), &polar::Role::BillingManager)
        .await
        .unwrap();
    client.webhook_endpoints().all().await.unwrap();
    let paths: Vec<_> = server
        .seen()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(
        paths,
        [
            "/v1/benefit-grants/?customer_id=cbc9c941-1680-441a-abf7-6ba8408527bd\
             &is_granted=true&sorting=created_at&page=1&limit=100",
            "/v1/subscriptions/?external_customer_id=o%26x&sorting=-started_at&page=1&limit=100",
            "/v1/members/?external_customer_id=o&sorting=created_at&role=billing_manager\
             &page=1&limit=100",
            "/v1/webhooks/endpoints?page=1&limit=100",
        ]
    );
}

/// Read as an empty list it would say that a customer holds nothing.
#[tokio::test]
async fn an_object_that_is_no_list_is_not_an_empty_list() {
    for body in [
        "{}",
        r#"{"items": []}"#,
        r#"{"pagination": {"max_page": 1}}"#,
        r#"{"status": "ok"}"#,
    ] {
        let server = Server::answering(move |_| async move { answer(200, &[], body) }).await;
        let grants = server.client().benefit_grants().active("o".into()).await;
        assert!(
            matches!(grants, Err(Error::Unreadable { .. })),
            "{body}: {grants:?}"
        );
    }
}
