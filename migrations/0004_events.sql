-- What came in from Polar and from the application, kept as it came, and what became of it.

-- Who sent which id before: what makes a second delivery, or a second change with the same id, a
-- duplicate. A table of its own, because the events are partitioned by day and their ids are not.
CREATE TABLE polar_jobs.event_ids (
    -- Compared byte by byte: a language's rules of order would cost more than all else in an index.
    external_id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    event_id bigint NOT NULL,
    PRIMARY KEY (external_id, source)
) WITH (fillfactor = 100, autovacuum_vacuum_insert_scale_factor = 0.5);

-- `body` holds the exact bytes of a delivery; `change` the data of an application's change.
-- A delivery is not stored twice: its JSON is read out of the body by the view below.
-- Rows are written once: a body is never copied because its outcome became known.
CREATE TABLE polar_jobs.stored_events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    received_at timestamptz NOT NULL DEFAULT now(),
    occurred_at timestamptz,
    source text NOT NULL CHECK (source IN ('polar', 'app')),
    external_id text COLLATE "C",
    type text COLLATE "C",
    -- Set where storing the event was all there is to do; else its jobs write to `event_ends`.
    outcome text CHECK (outcome IN ('applied', 'ignored', 'failed')),
    change jsonb,
    body bytea
) PARTITION BY RANGE (received_at);
CREATE INDEX stored_events_id ON polar_jobs.stored_events (id);
INSERT INTO polar_jobs.partitioned_tables (parent, storage) VALUES
    ('stored_events', 'fillfactor = 100, autovacuum_vacuum_insert_scale_factor = 0.5');
-- Everything of an event stays in its row where that fits into a page.
ALTER TABLE polar_jobs.stored_events ALTER source SET STORAGE MAIN, ALTER external_id SET STORAGE MAIN,
    ALTER type SET STORAGE MAIN, ALTER outcome SET STORAGE MAIN, ALTER change SET STORAGE MAIN,
    ALTER body SET STORAGE MAIN;
-- What Polar sends is JSON of 1 to 10 KiB. lz4 halves the log and takes less time than writing all of it does; pglz takes
-- three times as much.
DO $$ BEGIN
    ALTER TABLE polar_jobs.stored_events ALTER body SET COMPRESSION lz4, ALTER change SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    -- A Postgres built without lz4.
    ALTER TABLE polar_jobs.stored_events ALTER body SET STORAGE EXTERNAL;
    UPDATE polar_jobs.partitioned_tables SET storage = 'toast_tuple_target = 8160, ' || storage
     WHERE parent = 'stored_events';
END $$;

-- When an event counts as received: when its transaction began, as its readings do, so that what is written together with
-- a creation belongs to it. A deletion counts from the moment on at which it is recorded: a transaction may have been
-- open for long before that, and what others wrote meanwhile was used.
CREATE FUNCTION polar_jobs.received_at(type text) RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN type = 'organization.deleted' THEN clock_timestamp() ELSE now() END
$$;

-- How the jobs of an event ended. Appended in the transaction that ends the job, so that an end waits
-- for nobody who holds the event's row. An operator's retry takes the job's row back.
CREATE TABLE polar_jobs.event_ends (
    event_id bigint NOT NULL,
    job_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    -- 1 ignored, 2 applied, 3 failed: of several ends the worst that needs somebody counts.
    rank smallint NOT NULL CHECK (rank BETWEEN 1 AND 3),
    -- Why it was ignored or failed: completed jobs are kept for days, events for months.
    note text
) WITH (fillfactor = 100, autovacuum_vacuum_insert_scale_factor = 0.5);
CREATE INDEX event_ends_event ON polar_jobs.event_ends (event_id);
SELECT polar_jobs.identify_rows('event_ends');

CREATE FUNCTION polar_jobs.end_rank(state text, outcome text) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN state = 'discarded' OR outcome = 'failed' THEN 3
                WHEN state = 'completed' AND outcome = 'applied' THEN 2
                ELSE 1 END::smallint
$$;

-- Null where the bytes are no JSON that Postgres can store (broken text, \u0000, lone surrogates).
CREATE FUNCTION polar_jobs.storable_json(body bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(body, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- Scalar subqueries, no join: a row of this view can be locked with FOR UPDATE.
CREATE VIEW polar_jobs.external_events AS
SELECT id, source, external_id, type,
       CASE WHEN body IS NULL THEN change ELSE polar_jobs.storable_json(body) END AS data,
       body, occurred_at, received_at,
       CASE WHEN outcome IS NOT NULL THEN received_at
            ELSE (SELECT max(e.at) FROM polar_jobs.event_ends e WHERE e.event_id = id) END AS handled_at,
       coalesce(outcome, (ARRAY['ignored', 'applied', 'failed'])[
           (SELECT max(e.rank) FROM polar_jobs.event_ends e WHERE e.event_id = id)]) AS outcome,
       CASE outcome WHEN 'ignored' THEN 'nothing follows from an event of this type'
                    WHEN 'failed' THEN 'its jobs could not be stored'
            ELSE (SELECT e.note FROM polar_jobs.event_ends e
                   WHERE e.event_id = stored_events.id ORDER BY e.rank DESC, e.at DESC LIMIT 1) END AS note
FROM polar_jobs.stored_events;
COMMENT ON VIEW polar_jobs.external_events IS
    'Every verified delivery and every change: how it came, and what became of it (outcome is null until it is handled).';

-- An event that is not handled yet keeps its day.
CREATE FUNCTION polar_jobs.drop_old_events(before timestamptz) RETURNS integer LANGUAGE sql AS $$
    SELECT polar_jobs.drop_partitions('stored_events', before,
        'r.outcome IS NULL AND NOT EXISTS (SELECT FROM polar_jobs.event_ends e WHERE e.event_id = r.id)')
$$;

-- Deletes the names of events that are gone, page by page through the table, so that the cost does not
-- grow with what was deleted before. Returns the page to go on from, null at the end.
CREATE FUNCTION polar_jobs.prune_event_ids(page bigint, pages integer) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM polar_jobs.event_ids
     WHERE ctid >= format('(%s,0)', page)::tid AND ctid < format('(%s,0)', page + pages)::tid
       AND event_id < coalesce((SELECT min(e.id) FROM polar_jobs.stored_events e), 9223372036854775807);
    RETURN CASE WHEN (page + pages) * current_setting('block_size')::bigint
                     < pg_relation_size('polar_jobs.event_ids') THEN page + pages END;
END $$;

-- Deletes how events that are gone ended, at most `batch` of them; the number deleted.
CREATE FUNCTION polar_jobs.prune_event_ends(batch integer) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    deleted bigint;
BEGIN
    DELETE FROM polar_jobs.event_ends WHERE ctid = ANY (ARRAY(
        SELECT e.ctid FROM polar_jobs.event_ends e
         WHERE e.event_id < coalesce((SELECT min(s.id) FROM polar_jobs.stored_events s), 9223372036854775807)
         ORDER BY e.event_id LIMIT batch));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;
