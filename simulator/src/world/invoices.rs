//! An invoice is made some time after it was asked for, announced, and linked for ten minutes.

use serde_json::Value;
use uuid::Uuid;

use crate::world::store::Store;

/// What is wrong with invoices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceFault {
    /// They are refused with 422, as for an order without billing details, whatever the order shows.
    Refused,
    /// Asking for one, and for the link to it, is answered 500.
    Broken,
    /// The order says that there is one, and the link to it is answered 404.
    NoLink,
    /// The link leads to another host, in the clear.
    Unencrypted,
    /// The storage answers 503.
    Unavailable,
    /// The storage answers with a page of HTML.
    Page,
    /// The document has so many bytes.
    Size(usize),
}

impl Store {
    /// The invoice is ready; `order.updated` says so.
    pub(crate) fn finish_invoice(&mut self, id: Uuid) {
        let now = self.now();
        let Some(row) = self.orders.get_mut(id).filter(|row| !row.invoice_generated) else {
            return;
        };
        row.invoice_generated = true;
        row.modified_at = Some(now);
        self.announce_order(id, &["order.updated"]);
    }

    /// The bytes behind an invoice link, while it lives.
    pub(crate) fn invoice_document(&self, number: &str, expires: i64) -> Option<Vec<u8>> {
        let known = self
            .orders
            .iter()
            .any(|row| row.invoice_generated && row.invoice_number.as_deref() == Some(number));
        (known && expires >= self.now().timestamp()).then(|| match self.invoice_fault {
            Some(InvoiceFault::Page) => b"<!doctype html>".to_vec(),
            Some(InvoiceFault::Size(bytes)) => {
                let mut document = pdf(number);
                document.resize(bytes, b'\n');
                document
            }
            _ => pdf(number),
        })
    }

    /// Whether any order waits for its money.
    pub(crate) fn orders_of(&self, customer_id: Uuid) -> Vec<Value> {
        self.orders
            .iter()
            .filter(|row| row.customer_id == customer_id)
            .map(|row| self.order_view(row))
            .collect()
    }
}

/// The smallest document that readers accept, with the number on its page.
fn pdf(number: &str) -> Vec<u8> {
    let text = format!("BT /F1 24 Tf 72 720 Td (Invoice {number}) Tj ET");
    format!(
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
         3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj\n\
         4 0 obj<</Length {}>>stream\n{text}\nendstream endobj\n\
         5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
        text.len()
    )
    .into_bytes()
}
