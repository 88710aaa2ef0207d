//! A token is checked by asking for the organization it belongs to.

use serde_json::{Value, json};

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::Refusal;
use crate::resources::paging::Page;
use crate::world::store::Store;

/// `GET /v1/organizations/`
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    Page::of(call)?.show(&[()], |()| view(store))
}

/// `GET /v1/organizations/{id}`
pub(crate) fn get(store: &mut Store, call: &Call) -> Outcome {
    if call.id(0)? == store.organization_id {
        return Ok(Reply::ok(view(store)));
    }
    Err(Refusal::not_found("Not found"))
}

impl Store {
    /// The organization as the portal shows it with every benefit, its settings included.
    pub(crate) fn portal_organization_view(&self) -> Value {
        json!({
            "created_at": "2026-01-01T00:00:00.000000Z", "modified_at": null, "id": self.organization_id,
            "name": "Self", "slug": "self", "status": "active", "email": null, "avatar_url": "https://example.com/self.png",
            "proration_behavior": "prorate", "allow_customer_updates": true, "bio": null, "company": null,
            "blog": null, "location": null, "twitter_username": null, "pledge_minimum_amount": 0,
            "pledge_badge_show_amount": false, "default_upfront_split_to_contributors": null, "website": null,
            "socials": [], "details_submitted_at": null, "feature_settings": feature_settings(),
            "subscription_settings": {
                "allow_multiple_subscriptions": false, "proration_behavior": "prorate",
                "benefit_revocation_grace_period": 0, "prevent_trial_abuse": false, "allow_customer_updates": true,
            },
            "customer_email_settings": mail_settings(),
        })
    }
}

fn feature_settings() -> Value {
    json!({
        "issue_funding_enabled": false, "seat_based_pricing_enabled": true, "unit_based_pricing_enabled": false,
        "wallets_enabled": false, "member_model_enabled": true, "checkout_localization_enabled": false,
        "overview_metrics": null, "reset_proration_behavior_enabled": false, "off_session_charges_enabled": false,
        "meter_cycling_enabled": false, "slack_benefit_enabled": false, "preview_access_enabled": false,
        "disputes_enabled": false, "sso_enabled": false, "dispute_auto_accept_enabled": false,
        "compass_enabled": false, "merchant_migration_enabled": false,
    })
}

fn mail_settings() -> Value {
    json!({
        "order_confirmation": true, "payment_method_expiration_reminder": true, "subscription_cancellation": true,
        "subscription_confirmation": true, "subscription_cycled": true, "subscription_cycled_after_trial": true,
        "subscription_past_due": true, "subscription_paused": true, "subscription_resumed": true,
        "subscription_renewal_reminder": true, "subscription_revoked": true,
        "subscription_trial_conversion_reminder": true, "subscription_uncanceled": true,
        "subscription_updated": true,
    })
}

fn view(store: &Store) -> Value {
    json!({
        "id": store.organization_id, "created_at": "2026-01-01T00:00:00.000000Z", "modified_at": null,
        "name": "Self", "slug": "self", "status": "active", "email": null, "avatar_url": null,
    })
}
