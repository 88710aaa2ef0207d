-- What came in at the front door, kept as it came.

-- `body` holds the exact bytes of a delivery; `change` the data of an application's change.
-- A delivery is not stored twice: its JSON is read out of the body by the view below.
CREATE TABLE polar_jobs.stored_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now(),
    occurred_at timestamptz,
    handled_at timestamptz,
    source text NOT NULL CHECK (source IN ('polar', 'app')),
    external_id text,
    type text,
    outcome text CHECK (outcome IN ('applied', 'ignored', 'failed')),
    change jsonb,
    body bytea,
    UNIQUE (source, external_id),
    CHECK ((handled_at IS NULL) = (outcome IS NULL))
    -- A 2 KiB body stays in its row; it is never compressed, only moved out when it is large.
) WITH (toast_tuple_target = 4096, fillfactor = 95, autovacuum_vacuum_insert_scale_factor = 0.5);
ALTER TABLE polar_jobs.stored_events ALTER body SET STORAGE EXTERNAL;
CREATE INDEX stored_events_time ON polar_jobs.stored_events USING brin (received_at) WITH (pages_per_range = 32);

-- Null where the bytes are no JSON that Postgres can store (broken text, \u0000, lone surrogates).
CREATE FUNCTION polar_jobs.storable_json(body bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(body, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

CREATE VIEW polar_jobs.external_events AS
SELECT id, source, external_id, type,
       CASE WHEN body IS NULL THEN change ELSE polar_jobs.storable_json(body) END AS data,
       body, occurred_at, received_at, handled_at, outcome
FROM polar_jobs.stored_events;

-- A finished job tells its events what became of them, in the transaction that finishes it.
CREATE FUNCTION polar_jobs.settle_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE polar_jobs.stored_events
       SET handled_at = NEW.finished_at,
           outcome = CASE NEW.state WHEN 'completed' THEN NEW.outcome WHEN 'discarded' THEN 'failed' ELSE 'ignored' END
     WHERE id = ANY (NEW.events);
    RETURN NULL;
END $$;
CREATE TRIGGER settle_events AFTER INSERT ON polar_jobs.finished_jobs
    FOR EACH ROW WHEN (NEW.events IS NOT NULL) EXECUTE FUNCTION polar_jobs.settle_events();
