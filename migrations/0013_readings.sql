-- Readings of usage and of costs, as they were recorded.

CREATE TABLE polar_jobs.usage (
    organization_id uuid NOT NULL,
    -- The largest whole number that every JSON reader keeps exactly.
    quantity bigint NOT NULL CONSTRAINT usage_quantity_range CHECK (quantity BETWEEN 1 AND 9007199254740991),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- Makes a reading idempotent while its id is kept, see `usage_external_ids`.
    external_id text CONSTRAINT usage_external_id_length CHECK (length(external_id) BETWEEN 1 AND 512),
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000),
    -- These two are left to their defaults, always. This one decides which window counts the row:
    -- 64 bits, never reused.
    written_by bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    -- When the transaction that wrote it began, by the clock of Postgres: chooses the partition, and
    -- tells whether the organization lived then. `recorded_at` is the application's word and may be
    -- of any time.
    written_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (written_at);
CREATE INDEX usage_written_by ON polar_jobs.usage (written_by);
COMMENT ON TABLE polar_jobs.usage IS
    'Readings. The application may INSERT or COPY (organization_id, quantity, recorded_at, external_id) here.';
INSERT INTO polar_jobs.partitioned_tables (parent, storage) VALUES ('usage', 'autovacuum_vacuum_insert_scale_factor = 0.5');
SELECT polar_jobs.create_partitions('usage', 7);

-- The ids of readings. A unique index of a partitioned table would have to hold the partition's day;
-- readings without an id have no row here.
CREATE TABLE polar_jobs.usage_external_ids (
    external_id text COLLATE "C" CONSTRAINT usage_external_id PRIMARY KEY,
    written_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX usage_external_ids_time ON polar_jobs.usage_external_ids USING brin (written_at) WITH (pages_per_range = 32);

-- For readings that an application inserts or copies itself. Our own functions below write the ids of
-- a whole batch at once, and say so. After the row and not before it: a trigger before the row would
-- make COPY write row by row.
CREATE FUNCTION polar_jobs.keep_external_id() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, polar_jobs, pg_temp AS $$
BEGIN
    INSERT INTO polar_jobs.usage_external_ids (external_id) VALUES (NEW.external_id);
    RETURN NULL;
END $$;
CREATE TRIGGER keep_external_id AFTER INSERT ON polar_jobs.usage FOR EACH ROW
    WHEN (NEW.external_id IS NOT NULL AND current_setting('polar_jobs.external_ids_kept', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION polar_jobs.keep_external_id();

-- Many readings in one statement; the number that was new. Ids in one order: two batches with the
-- same ids in another order cannot deadlock. Of two readings with one id the first is kept.
CREATE FUNCTION polar_jobs.record_usage_batch(
    organization_ids uuid[], quantities bigint[], recorded_ats timestamptz[], external_ids text[]
) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    accepted bigint;
BEGIN
    -- Not by a SET clause: only a superuser may make a function that sets a parameter unknown to Postgres.
    PERFORM set_config('polar_jobs.external_ids_kept', 'on', true);
    WITH kept AS (
        INSERT INTO polar_jobs.usage_external_ids (external_id)
        SELECT given.id FROM unnest(external_ids) AS given (id) WHERE given.id IS NOT NULL ORDER BY given.id COLLATE "C"
        ON CONFLICT DO NOTHING
        RETURNING external_id
    ), recorded AS (
        INSERT INTO polar_jobs.usage (organization_id, quantity, recorded_at, external_id)
        SELECT r.organization_id, r.quantity, coalesce(r.recorded_at, now()), r.external_id
          FROM unnest(organization_ids, quantities, recorded_ats, external_ids)
               AS r (organization_id, quantity, recorded_at, external_id)
         WHERE r.external_id IS NULL
        UNION ALL
        (SELECT DISTINCT ON (r.external_id) r.organization_id, r.quantity, coalesce(r.recorded_at, now()), r.external_id
          FROM unnest(organization_ids, quantities, recorded_ats, external_ids) WITH ORDINALITY
               AS r (organization_id, quantity, recorded_at, external_id, place)
          JOIN kept ON kept.external_id = r.external_id
         ORDER BY r.external_id, r.place)
        RETURNING 1)
    SELECT count(*) INTO accepted FROM recorded;
    PERFORM set_config('polar_jobs.external_ids_kept', 'off', true);
    RETURN accepted;
END $$;

-- One reading; its id, or null for a duplicate.
CREATE FUNCTION polar_jobs.record_usage(
    organization_id uuid, quantity bigint, recorded_at timestamptz DEFAULT NULL, external_id text DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    reading bigint;
BEGIN
    PERFORM set_config('polar_jobs.external_ids_kept', 'on', true);
    WITH kept AS (
        INSERT INTO polar_jobs.usage_external_ids (external_id)
        SELECT record_usage.external_id WHERE record_usage.external_id IS NOT NULL
        ON CONFLICT DO NOTHING
        RETURNING 1)
    INSERT INTO polar_jobs.usage (organization_id, quantity, recorded_at, external_id)
    SELECT record_usage.organization_id, record_usage.quantity, coalesce(record_usage.recorded_at, now()),
           record_usage.external_id
     WHERE record_usage.external_id IS NULL OR EXISTS (SELECT FROM kept)
    RETURNING id INTO reading;
    PERFORM set_config('polar_jobs.external_ids_kept', 'off', true);
    RETURN reading;
END $$;

CREATE TABLE polar_jobs.costs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid NOT NULL,
    source text NOT NULL CONSTRAINT costs_source_length CHECK (length(source) BETWEEN 1 AND 63),
    context text CONSTRAINT costs_context_length CHECK (length(context) BETWEEN 1 AND 63),
    vendor text,
    model text,
    input_tokens bigint CONSTRAINT costs_input_tokens_range CHECK (input_tokens >= 0),
    output_tokens bigint CONSTRAINT costs_output_tokens_range CHECK (output_tokens >= 0),
    -- US dollars, exact. Above 10 000 000 one reading would become more than 10 000 events.
    cost_usd numeric CONSTRAINT costs_cost_usd_range CHECK (cost_usd >= 0 AND cost_usd <= 10000000),
    usage_id text CONSTRAINT costs_usage_id_length CHECK (length(usage_id) BETWEEN 1 AND 512),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- As in `usage`: left to its default, tells which life of the organization it belongs to.
    written_at timestamptz NOT NULL DEFAULT now(),
    -- How often it was sent, counted before it is: Polar cannot know what is sent for the first time.
    sends integer NOT NULL DEFAULT 0,
    reported_at timestamptz CHECK ((reported_at IS NOT NULL) = (state = 'reported')),
    -- The id of the change; makes a reading idempotent while it is kept.
    external_id text CONSTRAINT costs_external_id_length CHECK (length(external_id) BETWEEN 1 AND 512),
    -- Stands in for a missing usage id, so that a resend is recognized all the same.
    reading_id uuid NOT NULL DEFAULT gen_random_uuid(),
    -- waiting: to be sent, or for its organization · reported · skipped, refused: `reason` says why
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'reported', 'skipped', 'refused')),
    reason text CHECK ((reason IS NULL) = (state IN ('waiting', 'reported')))
) WITH (fillfactor = 80);
CREATE INDEX costs_waiting ON polar_jobs.costs (id) WHERE state = 'waiting';
CREATE INDEX costs_organization ON polar_jobs.costs (organization_id, recorded_at);
CREATE INDEX costs_usage_id ON polar_jobs.costs (usage_id) WHERE usage_id IS NOT NULL;
CREATE UNIQUE INDEX costs_external_id ON polar_jobs.costs (external_id) WHERE external_id IS NOT NULL;
COMMENT ON TABLE polar_jobs.costs IS 'Cost readings; each is reported once, see reported_at.';

-- The context of a cost that names none.
CREATE FUNCTION polar_jobs.default_context(source text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE source WHEN 'compass_assistant' THEN 'chat' ELSE 'usage' END
$$;

-- One cost reading; its id, or null for a duplicate.
CREATE FUNCTION polar_jobs.record_cost(
    organization_id uuid, source text, context text DEFAULT NULL, vendor text DEFAULT NULL,
    model text DEFAULT NULL, input_tokens bigint DEFAULT NULL, output_tokens bigint DEFAULT NULL,
    cost_usd numeric DEFAULT NULL, usage_id text DEFAULT NULL,
    recorded_at timestamptz DEFAULT NULL, external_id text DEFAULT NULL
) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO polar_jobs.costs (organization_id, source, context, vendor, model, input_tokens,
                                  output_tokens, cost_usd, usage_id, recorded_at, external_id)
    VALUES (record_cost.organization_id, record_cost.source, record_cost.context, record_cost.vendor,
            record_cost.model, record_cost.input_tokens, record_cost.output_tokens, record_cost.cost_usd,
            record_cost.usage_id, coalesce(record_cost.recorded_at, now()), record_cost.external_id)
    ON CONFLICT (external_id) WHERE external_id IS NOT NULL DO NOTHING
    RETURNING id
$$;
