-- Usage and costs: what was recorded, what was counted, what Polar answered.
--
-- Usage is counted by transaction, not by time. Every reading carries the id of the transaction
-- that wrote it; a window closes at the oldest transaction that is still running, and holds
-- exactly what the transactions from the last such horizon to this one wrote. A late commit lies
-- at or above the horizon and falls into a later window; nothing is counted twice, nothing is
-- missed, and no row is ever marked.

CREATE TABLE polar_jobs.usage (
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 50),
    organization_id uuid NOT NULL,
    -- The largest whole number that every JSON reader keeps exactly.
    quantity bigint NOT NULL CONSTRAINT usage_quantity_range CHECK (quantity BETWEEN 1 AND 9007199254740991),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- Makes a reading idempotent while it is kept.
    external_id text CONSTRAINT usage_external_id_length CHECK (length(external_id) BETWEEN 1 AND 512),
    -- Left to its default, always: it decides which window counts the row. 64 bits, never reused.
    written_by bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint
) WITH (autovacuum_vacuum_insert_scale_factor = 0.5);
CREATE INDEX usage_written_by ON polar_jobs.usage (written_by);
CREATE UNIQUE INDEX usage_external_id ON polar_jobs.usage (external_id) WHERE external_id IS NOT NULL;
COMMENT ON TABLE polar_jobs.usage IS
    'Readings. The application may INSERT or COPY (organization_id, quantity, recorded_at, external_id) here.';

-- Where the next window starts. One row.
CREATE TABLE polar_jobs.usage_cursor (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- The next window holds what transactions from this id on wrote.
    from_xid bigint NOT NULL,
    -- The end of the newest window.
    window_end timestamptz,
    -- Readings recorded before are history, billed elsewhere: shown, not counted. Null = count all.
    since timestamptz,
    -- The transaction that wrote this row. A restored copy was written by another one, and then
    -- transaction ids here mean nothing: metering stops and says so.
    written_by bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint
);
-- Metering starts at the installation: the table above is born empty with it.
INSERT INTO polar_jobs.usage_cursor (from_xid) VALUES (pg_current_xact_id()::text::bigint);

-- One row per closed window that held readings; contiguous: each starts where the one before ended.
CREATE TABLE polar_jobs.usage_windows (
    -- Whole seconds, strictly increasing, part of every event's id at Polar.
    window_end timestamptz PRIMARY KEY CHECK (date_trunc('second', window_end) = window_end),
    from_xid bigint NOT NULL,
    to_xid bigint NOT NULL CHECK (to_xid > from_xid),
    -- What the events say: the window's end, but never ahead of the clock at closing.
    event_timestamp timestamptz NOT NULL CHECK (event_timestamp <= window_end),
    readings bigint NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT now(),
    -- Set once all its readings were deleted after their retention.
    pruned_at timestamptz
);

-- One request to Polar that was answered.
CREATE TABLE polar_jobs.usage_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    answered_at timestamptz NOT NULL DEFAULT now(),
    sent integer NOT NULL,
    inserted bigint NOT NULL,
    duplicates bigint NOT NULL,
    CHECK (inserted + duplicates = sent)
);

CREATE TABLE polar_jobs.usage_reports (
    window_end timestamptz NOT NULL REFERENCES polar_jobs.usage_windows,
    organization_id uuid NOT NULL,
    -- How much is reported; frozen with the window and never changed.
    quantity bigint NOT NULL,
    -- Readings behind it, history included.
    readings bigint NOT NULL,
    -- Quantity recorded before the cursor's `since`, not part of `quantity`.
    history bigint NOT NULL DEFAULT 0,
    external_id text NOT NULL,
    -- frozen: to be sent · waiting: the organization is not created yet · reported · refused: by
    -- Polar, `reason` says why · excluded: not to be sent, `reason` says why
    state text NOT NULL CHECK (state IN ('frozen', 'waiting', 'reported', 'refused', 'excluded')),
    reason text CHECK ((reason IS NULL) = (state IN ('frozen', 'waiting', 'reported'))),
    -- The request that Polar answered, and whether it was new to Polar. A request with both kinds
    -- cannot be told apart row by row: 'inserted or duplicate'.
    request_id bigint REFERENCES polar_jobs.usage_requests,
    answer text CHECK (answer IN ('inserted', 'duplicate', 'inserted or duplicate')),
    reported_at timestamptz CHECK ((reported_at IS NOT NULL) = (state = 'reported')),
    PRIMARY KEY (window_end, organization_id)
) WITH (fillfactor = 80);
CREATE INDEX usage_reports_organization ON polar_jobs.usage_reports (organization_id, window_end);
CREATE INDEX usage_reports_unsettled ON polar_jobs.usage_reports (window_end, organization_id)
    WHERE state IN ('frozen', 'waiting');

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
CREATE UNIQUE INDEX costs_external_id ON polar_jobs.costs (external_id) WHERE external_id IS NOT NULL;
COMMENT ON TABLE polar_jobs.costs IS 'Cost readings; each is reported once, see reported_at.';

-- Many readings in one statement; the number that was new. Ids in one order: two batches with the
-- same ids in another order cannot deadlock.
CREATE FUNCTION polar_jobs.record_usage_batch(
    organization_ids uuid[], quantities bigint[], recorded_ats timestamptz[], external_ids text[]
) RETURNS bigint LANGUAGE sql AS $$
    WITH recorded AS (
        INSERT INTO polar_jobs.usage (organization_id, quantity, recorded_at, external_id)
        SELECT r.organization_id, r.quantity, coalesce(r.recorded_at, now()), r.external_id
          FROM unnest(organization_ids, quantities, recorded_ats, external_ids)
               AS r (organization_id, quantity, recorded_at, external_id)
         ORDER BY r.external_id
        ON CONFLICT (external_id) WHERE external_id IS NOT NULL DO NOTHING
        RETURNING 1)
    SELECT count(*) FROM recorded
$$;

-- One reading; its id, or null for a duplicate.
CREATE FUNCTION polar_jobs.record_usage(
    organization_id uuid, quantity bigint, recorded_at timestamptz DEFAULT NULL, external_id text DEFAULT NULL
) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO polar_jobs.usage (organization_id, quantity, recorded_at, external_id)
    VALUES (record_usage.organization_id, record_usage.quantity,
            coalesce(record_usage.recorded_at, now()), record_usage.external_id)
    ON CONFLICT (external_id) WHERE external_id IS NOT NULL DO NOTHING
    RETURNING id
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
