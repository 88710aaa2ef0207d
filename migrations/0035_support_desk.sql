-- The support desk: what Plain was last seen to hold of each organization and its people. Ids only; the names and addresses that
-- are wanted there are the mirror's.

-- A queue of its own with few slots: while Plain is slow to answer, what waits for it takes no slot from billing.
INSERT INTO polar_jobs.queues (name, slots) VALUES ('support', 5);

CREATE TABLE polar_jobs.support_desk_tenants (
    organization_id uuid PRIMARY KEY,
    -- The change of the organization, and the tier that its grants gave, that Plain was last seen to agree with.
    synced_event bigint,
    synced_tier text,
    -- Tiers that the organization may have at Plain because we gave them, written before Plain is asked. When its grants give none
    -- any more, only such a tier is taken away: what somebody else gave it stays.
    given_tiers text[] NOT NULL DEFAULT '{}'
);

CREATE TABLE polar_jobs.support_desk_members (
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    -- The newest change of membership or person that Plain was last seen to agree with.
    synced_event bigint NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);

-- The people of an organization whom Plain was not yet seen to hold as they are wanted. Of those who left only whom it was seen to
-- hold; nobody whose address is not known.
CREATE FUNCTION polar_jobs.support_desk_unsynced_members(organization uuid) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT m.user_id
      FROM polar_jobs.memberships m
      JOIN polar_jobs.people p USING (user_id)
      LEFT JOIN polar_jobs.support_desk_members s USING (organization_id, user_id)
     WHERE m.organization_id = organization
       AND s.synced_event IS DISTINCT FROM polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event)
       AND CASE WHEN m.removed_at IS NULL THEN p.email IS NOT NULL ELSE s.synced_event IS NOT NULL END
$$;

REVOKE ALL ON polar_jobs.support_desk_tenants, polar_jobs.support_desk_members FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION polar_jobs.support_desk_unsynced_members(uuid) FROM PUBLIC;
