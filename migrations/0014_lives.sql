-- The lives of an organization: from a creation to its deletion; the same id may live again. Usage belongs
-- to the life in which it was written.

-- Deletions of organizations: what is written after one, and before a new creation, is not reported.
CREATE TABLE polar_jobs.organization_deletions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid NOT NULL,
    -- When the deletion was recorded, not when it was applied.
    deleted_at timestamptz NOT NULL,
    -- The transaction that applied it: whatever was written before the deletion is older.
    applied_by bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    -- When the creation was recorded with which the organization started anew.
    recreated_at timestamptz CHECK (recreated_at >= deleted_at)
);
CREATE INDEX organization_deletions_organization ON polar_jobs.organization_deletions (organization_id);

-- A trigger, so that no way of writing an organization can forget it.
CREATE FUNCTION polar_jobs.note_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    recorded timestamptz := coalesce(
        (SELECT e.received_at FROM polar_jobs.external_events e WHERE e.id = NEW.event_id), clock_timestamp());
BEGIN
    IF NEW.deleted_at IS NOT NULL THEN
        INSERT INTO polar_jobs.organization_deletions (organization_id, deleted_at) VALUES (NEW.id, recorded);
    ELSE
        -- A creation counts from the beginning of its transaction, a deletion from its own moment. Where that comes later,
        -- as in one transaction, there is nothing between the two lives.
        UPDATE polar_jobs.organization_deletions SET deleted_at = least(deleted_at, recorded), recreated_at = recorded
         WHERE organization_id = NEW.id AND recreated_at IS NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_deletion AFTER UPDATE OF deleted_at ON polar_jobs.organizations FOR EACH ROW
    WHEN ((OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)) EXECUTE FUNCTION polar_jobs.note_deletion();
-- Organizations whose deletion, or creation after one, is recorded and not applied yet, and since when:
-- which life a later reading belongs to is not known before.
CREATE INDEX stored_events_lives ON polar_jobs.stored_events (received_at)
    WHERE source = 'app' AND type IN ('organization.created', 'organization.deleted');

CREATE FUNCTION polar_jobs.undecided_lives() RETURNS TABLE (organization_id uuid, since timestamptz)
    LANGUAGE sql STABLE ROWS 10 AS $$
    SELECT u.id, u.since
      FROM (SELECT (e.data ->> 'id')::uuid AS id, min(e.received_at) AS since, bool_or(e.type = 'organization.deleted') AS ends
              FROM polar_jobs.external_events e
             WHERE e.source = 'app' AND e.type IN ('organization.created', 'organization.deleted') AND e.handled_at IS NULL
               AND e.received_at > clock_timestamp() - interval '30 days'
             GROUP BY 1) u
     -- A creation alone begins the first life, unless one has ended. In one transaction with a deletion it counts from
     -- an earlier moment than that.
     WHERE u.ends OR EXISTS (SELECT FROM polar_jobs.organization_deletions d
                              WHERE d.organization_id = u.id AND d.recreated_at IS NULL)
$$;
