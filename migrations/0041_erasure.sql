-- Erasure of personal data: names and addresses of a deleted organization's people, and the bodies of
-- deliveries about it. Ids, amounts and outcomes stay.

ALTER TABLE polar_jobs.organizations
    -- When its personal data was erased; null again when it starts anew.
    ADD COLUMN erased_at timestamptz,
    -- When Polar was last seen to agree with something new.
    ADD COLUMN synced_at timestamptz;
ALTER TABLE polar_jobs.memberships ADD COLUMN synced_at timestamptz;
-- What the daily prune looks for: not what was erased long ago, which only becomes more.
CREATE INDEX organizations_deleted ON polar_jobs.organizations (deleted_at) WHERE deleted_at IS NOT NULL AND erased_at IS NULL;
CREATE INDEX organizations_erased ON polar_jobs.organizations (erased_at) WHERE erased_at IS NOT NULL;

-- Erased organizations, and every customer that they had at Polar: what Polar still delivers about them is
-- stored without its body. Small, and asked by one index probe for each group of deliveries.
CREATE TABLE polar_jobs.erased_subjects (
    id uuid PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);

-- People who belong to no organization that lives: nobody needs their names and addresses any more.
CREATE VIEW polar_jobs.unattached_people AS
SELECT p.user_id, p.email, p.name, p.changed_event FROM polar_jobs.people p
 WHERE NOT EXISTS (SELECT FROM polar_jobs.memberships m
                     LEFT JOIN polar_jobs.organizations o ON o.id = m.organization_id
                    WHERE m.user_id = p.user_id AND m.removed_at IS NULL AND o.deleted_at IS NULL);

-- The bodies of a group of deliveries, null where a delivery is about an erased organization. Arrays of one
-- length: of each delivery its body, its organization and Polar's id of its customer, as far as it names them.
-- In plpgsql, which keeps its plans: SQL functions are planned anew at every call, and this one is in each group.
CREATE FUNCTION polar_jobs.without_erased(bodies bytea[], organizations uuid[], customers uuid[]) RETURNS bytea[]
    LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM polar_jobs.erased_subjects e WHERE e.id = ANY (organizations || customers)) THEN
        RETURN bodies;
    END IF;
    RETURN ARRAY(
        SELECT CASE WHEN NOT EXISTS (SELECT FROM polar_jobs.erased_subjects e
                                      WHERE e.id IN (given.organization, given.customer)) THEN given.body END
          FROM unnest(bodies, organizations, customers) WITH ORDINALITY
               AS given (body, organization, customer, place)
         ORDER BY given.place);
END $$;

-- Removes the bodies of deliveries with these ids that name an erased subject anywhere, also where they
-- are no JSON. Returns how many.
CREATE FUNCTION polar_jobs.erase_bodies(above bigint, upto bigint) RETURNS bigint LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
DECLARE
    erased bigint;
BEGIN
    UPDATE polar_jobs.stored_events e SET body = NULL
     WHERE e.id > above AND e.id <= upto AND e.source = 'polar' AND e.body IS NOT NULL
       AND EXISTS (SELECT FROM regexp_matches(encode(e.body, 'escape'), '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}', 'g')
                          AS found (ids)
                     JOIN polar_jobs.erased_subjects s ON s.id = found.ids[1]::uuid);
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END $$;

-- Removes names and addresses from changes with these ids that are about these organizations or people,
-- all in lower case. One that is not handled yet keeps what its job still has to read. Returns how many.
CREATE FUNCTION polar_jobs.erase_changes(above bigint, upto bigint, organizations text[], people text[]) RETURNS bigint
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    erased bigint;
BEGIN
    WITH named AS (
        SELECT e.id, e.received_at,
               (e.change #- '{owner,email}' #- '{owner,name}' #- '{user,email}' #- '{user,name}')
                 - CASE WHEN e.type = 'user.updated' OR about.organization = ANY (organizations)
                        THEN ARRAY['email', 'name', 'slug'] ELSE '{}' END AS change
          FROM polar_jobs.stored_events e,
               LATERAL (SELECT lower(CASE WHEN e.type LIKE 'organization.%' THEN e.change ->> 'id'
                                          ELSE e.change ->> 'organization_id' END) AS organization,
                               lower(coalesce(e.change #>> '{owner,id}', e.change #>> '{user,id}',
                                              CASE WHEN e.type = 'user.updated' THEN e.change ->> 'id' END)) AS person) about
         WHERE e.id > above AND e.id <= upto AND e.source = 'app' AND e.change IS NOT NULL
           AND (about.organization = ANY (organizations) OR about.person = ANY (people))
           AND (e.outcome IS NOT NULL OR EXISTS (SELECT FROM polar_jobs.event_ends d WHERE d.event_id = e.id))
    )
    UPDATE polar_jobs.stored_events e SET change = named.change
      FROM named
     WHERE e.id = named.id AND e.received_at = named.received_at AND e.change IS DISTINCT FROM named.change;
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END $$;
