-- What operators are told: who lives, what a row is about, what was refused at the entrance.

-- Whether a worker lives as far as can be told: its lease holds, and where it has a session lock, Postgres has not
-- dropped that. A living worker lacks the lock for a moment while it reconnects.
CREATE FUNCTION polar_jobs.is_alive(worker polar_jobs.workers) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT worker.leased_until > now() AND (NOT worker.session_lock OR polar_jobs.holds_session_lock(worker.id))
$$;

-- Text as a UUID, null where it is none.
CREATE FUNCTION polar_jobs.as_uuid(value text) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN value::uuid END
$$;

-- The organization that a job is about, where its payload or its keys say so.
CREATE FUNCTION polar_jobs.organization_of_job(payload jsonb, ordering_key text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(polar_jobs.as_uuid(payload ->> 'organization_id'),
                    polar_jobs.as_uuid(payload ->> 'external_customer_id'),
                    CASE WHEN starts_with(ordering_key, 'organization/') THEN polar_jobs.as_uuid(substr(ordering_key, 14)) END)
$$;

-- The organization that an event is about, where its data say so.
CREATE FUNCTION polar_jobs.organization_of_event(type text, data jsonb) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT polar_jobs.as_uuid(coalesce(
        data ->> 'organization_id',
        CASE WHEN type LIKE 'organization.%' THEN data ->> 'id'
             WHEN type LIKE 'customer.%' THEN data #>> '{data,external_id}' END,
        data #>> '{data,customer,external_id}', data #>> '{data,external_customer_id}'))
$$;

-- Deliveries that fit none of our secrets since one was accepted last. One row, written at most once a minute by each
-- ingress, so that `doctor` sees it from another process.
CREATE TABLE polar_jobs.refused_deliveries (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    since timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    deliveries bigint NOT NULL
);

-- When a delivery was accepted last; null where none is among the newest 10 000 events.
CREATE FUNCTION polar_jobs.last_delivery_at() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT newest.received_at
      FROM (SELECT e.source, e.received_at FROM polar_jobs.stored_events e ORDER BY e.id DESC LIMIT 10000) newest
     WHERE newest.source = 'polar' LIMIT 1
$$;

CREATE FUNCTION polar_jobs.note_refused_deliveries(refused bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO polar_jobs.refused_deliveries AS noted (deliveries) VALUES (refused)
    ON CONFLICT (is_only_row) DO UPDATE
       SET since = CASE WHEN polar_jobs.last_delivery_at() > noted.last_at THEN excluded.since ELSE noted.since END,
           deliveries = CASE WHEN polar_jobs.last_delivery_at() > noted.last_at THEN 0 ELSE noted.deliveries END
                      + excluded.deliveries,
           last_at = excluded.last_at
$$;
