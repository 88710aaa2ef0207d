//! The routes of the control surface are shown in three places (the start page, the command line's help, and to whoever
//! asks for one that does not exist), which read them here.

/// A route of the control surface, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRoute {
    /// The method.
    pub method: &'static str,
    /// The path, with its places in braces.
    pub path: &'static str,
    /// What it takes and does.
    pub what: &'static str,
}

const fn get(path: &'static str, what: &'static str) -> ControlRoute {
    ControlRoute {
        method: "GET",
        path,
        what,
    }
}

const fn post(path: &'static str, what: &'static str) -> ControlRoute {
    ControlRoute {
        method: "POST",
        path,
        what,
    }
}

/// What the simulator answers beside Polar's API, without a token.
pub const CONTROL_ROUTES: &[ControlRoute] = &[
    get(
        "/simulator/state",
        "everything Polar holds: customers with members, grants, subscriptions and orders; products, events, deliveries, endpoints",
    ),
    get(
        "/simulator/requests",
        "every API request seen, with its status and body",
    ),
    get(
        "/simulator/invoices/{number}.pdf",
        "what invoice links point to",
    ),
    post(
        "/simulator/purchase",
        r#"{"external_customer_id" or "customer_id", "product": "pro", "start": "active", "trial" or "incomplete"}: checkout and payment"#,
    ),
    post(
        "/simulator/customers/{external_id}/{step}",
        "cancel, uncancel, revoke, past_due, recover, unpaid, renew, pause, resume, complete, expire, lock or unlock the newest subscription that has not ended",
    ),
    post(
        "/simulator/customers/{external_id}/change_plan",
        r#"{"product"}: another plan, at once and paid"#,
    ),
    post(
        "/simulator/customers/{external_id}/benefit",
        r#"{"type", "metadata"}: edits fields of the benefit of that type that the customer holds"#,
    ),
    post(
        "/simulator/subscriptions/{id}/{step}",
        "the same steps with one subscription",
    ),
    post(
        "/simulator/benefits/{id}",
        r#"{"metadata"}: replaces a benefit's metadata"#,
    ),
    post(
        "/simulator/advance",
        r#"{"days", "seconds"}: moves the simulated clock"#,
    ),
    post("/simulator/deliver", r#"{"id"}: sends a delivery again"#),
    post(
        "/simulator/webhook",
        r#"{"url", "secret"}: registers the endpoint; "url": null disables it"#,
    ),
    post(
        "/simulator/faults",
        r#"{"spec"}: how often which fault happens, as in --faults"#,
    ),
    post(
        "/simulator/fail",
        r#"{"customer", "status", "seconds"}: the calls about this customer, by either id, or all with "*", fail with this status (500) for so long (until told); "customer": null ends all of it"#,
    ),
    post(
        "/simulator/gateway",
        r#"{"status", "html", "path"}: a gateway answers in place of Polar; "status": null removes it"#,
    ),
    post(
        "/simulator/token",
        r#"{"revoked"}: true makes the access token unknown, false makes it good again"#,
    ),
    post(
        "/simulator/scopes",
        r#"{"without": ["benefits:read", ..]}: what the token may not do; an empty list gives all back"#,
    ),
    post(
        "/simulator/arm",
        r#"{"when": {"method", "path", "point"}, "do": {"method", "path", "body"}}: what somebody else does during the next such request; points are arrival, commit, answer"#,
    ),
    get(
        "/checkout/{secret}",
        "the page behind the link of a checkout: a person chooses a plan and a card that pays, is declined later, or is declined now; POST pays",
    ),
];
