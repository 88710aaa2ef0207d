//! Lists: all pages, or one.
//!
//! Pages are windows over a list that others change meanwhile, so an item can appear twice. Lists
//! are read oldest first where Polar sorts so, which puts new items at the end, and an id seen
//! before is dropped.
//!
//! Unlike most fields, `items` and `max_page` are not optional: an answer without them is none of
//! Polar's, and to read it as an empty list would take away everything that a customer holds.

use std::collections::HashSet;

use serde::Deserialize;
use uuid::Uuid;

use crate::{Client, Error, call::Call};

/// The most that Polar gives per page; more is silently cut.
const LIMIT: u32 = 100;

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    /// The items; empty beyond the end.
    pub items: Vec<T>,
    /// How many there are in all.
    pagination: Pagination,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Pagination {
    #[serde(default)]
    total_count: u64,
    max_page: u32,
}

impl<T> Page<T> {
    /// How many items the whole list had when this page was read.
    #[must_use]
    pub fn total_count(&self) -> u64 {
        self.pagination.total_count
    }

    /// The number of the last page; 0 for an empty list.
    #[must_use]
    pub fn max_page(&self) -> u32 {
        self.pagination.max_page
    }
}

/// What can be told apart in a list.
pub(crate) trait Identified {
    fn id(&self) -> Uuid;
}

/// Page `number`, counted from 1, of the list that `call` asks for.
pub(crate) async fn one<T: serde::de::DeserializeOwned>(
    client: &Client,
    number: u32,
    call: impl Fn() -> Call,
) -> Result<Page<T>, Error> {
    limited(client, number, LIMIT, call).await
}

/// The same with another number of items per page.
pub(crate) async fn limited<T: serde::de::DeserializeOwned>(
    client: &Client,
    number: u32,
    limit: u32,
    call: impl Fn() -> Call,
) -> Result<Page<T>, Error> {
    client
        .fetch(call().query("page", number).query("limit", limit))
        .await
}

/// Every item of the list that `call` asks for, each once.
pub(crate) async fn all<T: serde::de::DeserializeOwned + Identified>(
    client: &Client,
    call: impl Fn() -> Call,
) -> Result<Vec<T>, Error> {
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    let mut number = 1;
    loop {
        let page: Page<T> = one(client, number, &call).await?;
        let last = page.items.is_empty() || number >= page.max_page();
        items.extend(page.items.into_iter().filter(|item| seen.insert(item.id())));
        if last {
            return Ok(items);
        }
        number += 1;
    }
}
