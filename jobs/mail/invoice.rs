//! The invoice of a paid order: asked for, waited for, fetched (docs/polar-facts.md#invoice).
//!
//! An invoice that cannot be had must not keep the mail back for ever, and a mail without it must not go while
//! it is only a matter of minutes. So there are 24 hours, counted from the order.

use chrono::TimeDelta;
use polar::{Client, OrAbsent, Order};

use crate::contract::{Error, Verdict};

/// How long after the order a mail waits for its invoice.
pub(crate) const INVOICE_DEADLINE: TimeDelta = TimeDelta::hours(24);
/// After so many failures, about half an hour, one that may pass no longer fails the job: the invoice is waited for
/// until the deadline.
const QUICK_RETRIES: u32 = 10;
/// The largest document that is fetched: invoices have a page or two.
const LARGEST: usize = 10 * 1024 * 1024;

/// An invoice as it goes with a mail.
pub struct Invoice {
    /// Polar's number of it, else the order's id; the file is named after it.
    pub number: String,
    /// The PDF.
    pub content: Vec<u8>,
}

/// What came of the look for an invoice.
pub(crate) enum Invoicing {
    /// It is here.
    Attached(Invoice),
    /// There will be none, or none in time.
    Without,
    /// Look again.
    NotYet(&'static str),
}

/// Gets the invoice of a paid order of this age, or says why there is none. `failures` is how often the job has failed.
pub(crate) async fn prepare(
    polar: &Client,
    order: &Order,
    age: TimeDelta,
    failures: u32,
) -> Result<Invoicing, Error> {
    let named = order
        .billing_name
        .as_ref()
        .is_some_and(|name| !name.trim().is_empty());
    if !named || order.billing_address.is_none() {
        return Ok(Invoicing::Without);
    }
    let is_late = age >= INVOICE_DEADLINE;
    let found = match (order.is_invoice_generated, is_late) {
        (true, _) => fetch(polar, order, failures).await?,
        (false, false) => ask_for(polar, order, failures).await?,
        (false, true) => Invoicing::NotYet("the invoice was not made in time"),
    };
    match found {
        Invoicing::NotYet(reason) if is_late => {
            tracing::warn!(order = %order.id, reason, "a mail goes without its invoice");
            Ok(Invoicing::Without)
        }
        found => Ok(found),
    }
}

async fn ask_for(polar: &Client, order: &Order, failures: u32) -> Result<Invoicing, Error> {
    match polar.orders().create_invoice(order.id).await {
        Ok(()) => Ok(Invoicing::NotYet("the invoice is being made")),
        Err(error) if error.lacks_billing_details() => Ok(Invoicing::Without),
        // The order changed since it was read; the next look decides on what it is then.
        Err(error) if error.is_order_without_invoice() || error.is_not_found() => {
            Ok(Invoicing::NotYet("the order can have no invoice now"))
        }
        Err(error) => cannot_be_had(order, error, failures),
    }
}

/// The mail is sent in the end, whatever Polar says about its invoice. Only two kinds of errors are returned to the job:
/// those that say nothing about the invoice (a call that was held back, a refused token, a missing scope), and the first
/// ones that may pass.
fn cannot_be_had(order: &Order, error: polar::Error, failures: u32) -> Result<Invoicing, Error> {
    let error = Error::from(error);
    match error.verdict() {
        Verdict::Wait { .. } => return Err(error),
        Verdict::Retry { .. } if failures < QUICK_RETRIES => return Err(error),
        Verdict::Retry { .. } | Verdict::Discard { .. } => {}
    }
    tracing::warn!(order = %order.id, %error, "an invoice cannot be had");
    Ok(Invoicing::NotYet("Polar does not give the invoice"))
}

async fn fetch(polar: &Client, order: &Order, failures: u32) -> Result<Invoicing, Error> {
    let link = match polar.orders().invoice(order.id).await.or_absent() {
        Ok(Some(link)) => link,
        Ok(None) => return Ok(Invoicing::NotYet("Polar has no link to the invoice")),
        Err(error) => return cannot_be_had(order, error, failures),
    };
    match polar.orders().download_invoice(&link, LARGEST).await {
        Ok(content) => Ok(Invoicing::Attached(Invoice {
            number: order
                .invoice_number
                .clone()
                .filter(|number| !number.trim().is_empty())
                .unwrap_or_else(|| order.id.to_string()),
            content,
        })),
        // The storage is not Polar's API, so nothing of this says that Polar is down; every look gets a new link.
        Err(error) => {
            tracing::warn!(order = %order.id, %error, "an invoice cannot be fetched");
            Ok(Invoicing::NotYet("the invoice cannot be fetched"))
        }
    }
}
