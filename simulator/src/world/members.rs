//! People come and go with a customer or by themselves, and each time it is announced at once.

use uuid::Uuid;

use crate::world::model::Member;
use crate::world::outbox::Payload;
use crate::world::store::Store;
use crate::world::views::member_view;

/// A member about to be made.
#[derive(Debug)]
pub(crate) struct NewMember {
    pub(crate) email: String,
    pub(crate) name: Option<String>,
    pub(crate) external_id: Option<String>,
}

impl Store {
    /// Adds a member and announces it at once.
    pub(crate) fn insert_member(
        &mut self,
        customer_id: Uuid,
        wanted: NewMember,
        role: &'static str,
    ) -> Uuid {
        let (id, now, revision) = (self.fresh_id(), self.now(), self.next_revision());
        let NewMember {
            email,
            name,
            external_id,
        } = wanted;
        let row = Member {
            id,
            created_at: now,
            modified_at: None,
            customer_id,
            email,
            name,
            external_id,
            role,
            created_revision: revision,
            deleted_revision: None,
        };
        let view = member_view(&row);
        self.members.insert(row);
        self.members_of.entry(customer_id).or_default().push(id);
        self.announce("member.created", Payload::Ready(view));
        id
    }

    pub(crate) fn delete_member(&mut self, id: Uuid) {
        let (now, revision) = (self.now(), self.next_revision());
        let Some(row) = self.members.get_mut(id) else {
            return;
        };
        row.deleted_revision = Some(revision);
        row.modified_at = Some(now);
        let view = member_view(row);
        self.announce("member.deleted", Payload::Ready(view));
    }

    /// With the customer all members go, the owner too.
    pub(crate) fn delete_all_members(&mut self, customer_id: Uuid) {
        let ids: Vec<Uuid> = self.living_members(customer_id).map(|row| row.id).collect();
        for id in ids {
            self.delete_member(id);
        }
    }
}
