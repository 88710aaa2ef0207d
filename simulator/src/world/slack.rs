//! A shared Slack channel is made by Slack, some time after somebody was invited, and connected when the invitation is
//! accepted; the grant's properties follow.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::catalogue::Product;
use crate::world::model::{Benefit, Metadata};
use crate::world::outbox::Payload;
use crate::world::steps::WorldError;
use crate::world::store::Store;

impl Store {
    /// Gives a plan a benefit that opens a shared channel; its subscribers hold it from now on.
    pub(crate) fn add_slack_benefit(&mut self, product: Product) -> Result<Uuid, WorldError> {
        let product_id = self
            .plan(product)
            .ok_or_else(|| WorldError::UnknownProduct(product.name().into()))?;
        let (id, created_at) = (self.fresh_id(), self.now());
        let row = Benefit {
            id,
            kind: "slack_shared_channel",
            created_at,
            modified_at: None,
            description: "Shared Slack channel".to_owned(),
            metadata: Metadata::new(),
            properties: json!({
                "slack_integration_id": self.fresh_id(), "channel_name_template": "ext-{customer}", "private": true,
                "archive_on_revoke": true, "team_invitees": [], "welcome_message": null,
            }),
        };
        let view = self.benefit_view(&row);
        self.benefits.insert(row);
        self.announce("benefit.created", Payload::Ready(view));
        let mut benefits = self
            .products
            .get(product_id)
            .map_or(Vec::new(), |row| row.benefits.clone());
        benefits.push(id);
        self.put_benefits(product_id, benefits);
        Ok(id)
    }

    /// Slack has made the channel and sent the invitation.
    pub(crate) fn finish_slack_invite(&mut self, id: Uuid) {
        let (invite, channel) = (self.fresh_text(10), self.fresh_text(9).to_uppercase());
        let link = format!("https://join.slack.com/share/{invite}");
        let found = [
            ("invite_id", format!("I{invite}")),
            ("invite_url", link),
            ("channel_id", format!("C{channel}")),
            ("channel_name", "ext-customer".to_owned()),
        ];
        self.update_slack_grant(id, &found);
    }

    /// Somebody in the customer's own Slack has accepted.
    pub(crate) fn connect_slack(&mut self, id: Uuid) -> Result<(), WorldError> {
        if self.grants.get(id).is_none() {
            return Err(WorldError::UnknownGrant(id));
        }
        let team = self.fresh_text(8).to_uppercase();
        self.update_slack_grant(id, &[("connected_team_id", format!("T{team}"))]);
        Ok(())
    }

    fn update_slack_grant(&mut self, id: Uuid, found: &[(&str, String)]) {
        let now = self.now();
        let Some(row) = self
            .grants
            .get_mut(id)
            .filter(|row| row.granted_at.is_some())
        else {
            return;
        };
        let before = Value::Object(row.properties.clone());
        for (key, value) in found {
            row.properties
                .insert((*key).to_owned(), value.as_str().into());
        }
        row.modified_at = Some(now);
        let Some(row) = self.grants.get(id) else {
            return;
        };
        let mut view = self.grant_view(row);
        view["previous_properties"] = before;
        self.announce("benefit_grant.updated", Payload::Ready(view));
    }
}
