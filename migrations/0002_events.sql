-- What came in at the front door, kept as it came.

-- `body` holds the exact bytes of a delivery; `change` the data of an application's change.
-- A delivery is not stored twice: its JSON is read out of the body by the view below.
CREATE TABLE polar_jobs.stored_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now(),
    occurred_at timestamptz,
    handled_at timestamptz,
    source text NOT NULL CHECK (source IN ('polar', 'app')),
    -- Compared byte by byte: a language's rules of order would cost more than all else in an index.
    external_id text COLLATE "C",
    type text COLLATE "C",
    outcome text CHECK (outcome IN ('applied', 'ignored', 'failed')),
    change jsonb,
    body bytea,
    CONSTRAINT stored_events_external_id_key UNIQUE (external_id, source),
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

-- What became of an event ----------------------------------------------------------------------
-- A job that ends tells its events, in the transaction that ends it. An event may have several jobs:
-- of their ends the worst that needs somebody counts, failed before applied before ignored. Only an
-- operator's retry takes an outcome back (`src/queue/table/revive.rs`).
--
-- Most statements end hundreds of jobs. Each with events is noted as it goes by, and one statement
-- behind the last of them settles all: that takes half the time of settling one by one, and locks the
-- rows in the order of their ids, so that no two batches wait for each other. (A transition table
-- would do the same, but copy every job that has no events.)
CREATE FUNCTION polar_jobs.note_ends() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- The rank of the end, as `settle_events` counts them.
    rank text := CASE WHEN NEW.state = 'discarded' OR NEW.outcome = 'failed' THEN '3'
                      WHEN NEW.state = 'completed' AND NEW.outcome = 'applied' THEN '2'
                      ELSE '1' END;
BEGIN
    PERFORM set_config('polar_jobs.ends', concat(current_setting('polar_jobs.ends', true),
                                                 rank, array_to_string(NEW.events, ',' || rank), ','), true);
    RETURN NULL;
END $$;
CREATE TRIGGER note_ends AFTER INSERT ON polar_jobs.finished_jobs
    FOR EACH ROW WHEN (cardinality(NEW.events) > 0) EXECUTE FUNCTION polar_jobs.note_ends();

CREATE FUNCTION polar_jobs.settle_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    outcomes CONSTANT text[] := ARRAY['ignored', 'applied', 'failed'];
    noted text := current_setting('polar_jobs.ends', true);
    ends text[];
BEGIN
    IF noted <> '' THEN
        PERFORM set_config('polar_jobs.ends', '', true);
        ends := string_to_array(rtrim(noted, ','), ',');
        PERFORM FROM polar_jobs.stored_events
          WHERE id = ANY (ARRAY(SELECT substr(e, 2)::bigint FROM unnest(ends) e))
          ORDER BY id FOR NO KEY UPDATE;
        UPDATE polar_jobs.stored_events event
           SET handled_at = now(), outcome = outcomes[ended.rank]
          FROM (SELECT substr(e, 2)::bigint AS id, max(left(e, 1)::integer) AS rank
                  FROM unnest(ends) e GROUP BY 1) ended
         WHERE event.id = ended.id AND ended.rank > coalesce(array_position(outcomes, event.outcome), 0);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER settle_events AFTER INSERT ON polar_jobs.finished_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION polar_jobs.settle_events();
