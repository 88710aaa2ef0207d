-- Usage and costs: what was recorded, what was counted, what Polar answered.
--
-- Usage is counted by transaction, not by time. Every reading carries the id of the transaction
-- that wrote it; a window closes at the oldest transaction that is still running, and holds
-- exactly what the transactions from the last such horizon to this one wrote. A late commit lies
-- at or above the horizon and falls into a later window; nothing is counted twice, nothing is
-- missed, and no row is ever marked.

CREATE TABLE polar_jobs.usage (
    organization_id uuid NOT NULL,
    -- The largest whole number that every JSON reader keeps exactly.
    quantity bigint NOT NULL CONSTRAINT usage_quantity_range CHECK (quantity BETWEEN 1 AND 9007199254740991),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- Makes a reading idempotent while it is kept.
    external_id text CONSTRAINT usage_external_id_length CHECK (length(external_id) BETWEEN 1 AND 512),
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 50),
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
-- Metering starts at the installation: the table above is born empty with it. A transaction that
-- runs already may still write to it later.
INSERT INTO polar_jobs.usage_cursor (from_xid) VALUES (pg_snapshot_xmin(pg_current_snapshot())::text::bigint);

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
    -- Set when its readings start to be deleted after their retention, and when all are gone.
    pruned_at timestamptz,
    emptied_at timestamptz
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
-- same ids in another order cannot deadlock. Of twins in one batch the first is kept.
CREATE FUNCTION polar_jobs.record_usage_batch(
    organization_ids uuid[], quantities bigint[], recorded_ats timestamptz[], external_ids text[]
) RETURNS bigint LANGUAGE sql AS $$
    WITH recorded AS (
        INSERT INTO polar_jobs.usage (organization_id, quantity, recorded_at, external_id)
        SELECT r.organization_id, r.quantity, coalesce(r.recorded_at, now()), r.external_id
          FROM unnest(organization_ids, quantities, recorded_ats, external_ids) WITH ORDINALITY
               AS r (organization_id, quantity, recorded_at, external_id, place)
         ORDER BY r.external_id, r.place
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

-- Closes a window and freezes one count per organization, in the caller's transaction. Returns
-- nothing where no transaction since the last window wrote a reading; then nothing changes.
-- Two callers at once: the second waits for the first and finds what is left, as a rule nothing.
--
-- `clock`: the time of closing. Fresh readings are not in the statistics yet, and a plan that
-- sorts ten million rows takes four times as long as one that hashes them: sorting is off.
CREATE FUNCTION polar_jobs.close_usage_window(clock timestamptz, self_organization uuid)
    RETURNS SETOF polar_jobs.usage_windows LANGUAGE plpgsql
    SET enable_sort = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    cursor polar_jobs.usage_cursor;
    native boolean;
    horizon bigint;
    ending timestamptz;
BEGIN
    SELECT * INTO STRICT cursor FROM polar_jobs.usage_cursor FOR UPDATE;
    -- A statement of its own: its snapshot is younger than the lock.
    SELECT c.xmin::text::bigint = (c.written_by & 4294967295), pg_snapshot_xmin(pg_current_snapshot())::text::bigint
      INTO native, horizon FROM polar_jobs.usage_cursor c;
    IF NOT native OR horizon < cursor.from_xid THEN
        RAISE EXCEPTION 'the tables of polar_jobs were restored from another cluster: transaction ids of usage mean nothing here'
            USING HINT = 'Run "polar-jobs usage adopt" once; until then no usage is counted and none is lost.',
                  ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF horizon = cursor.from_xid THEN RETURN; END IF;
    ending := greatest(date_trunc('second', clock), cursor.window_end + interval '1 second');

    RETURN QUERY
    WITH counted AS MATERIALIZED (
        SELECT u.organization_id, count(*) AS readings,
               coalesce(sum(u.quantity) FILTER (WHERE cursor.since IS NULL OR u.recorded_at >= cursor.since), 0) AS total,
               coalesce(sum(u.quantity) FILTER (WHERE u.recorded_at < cursor.since), 0) AS history
          FROM polar_jobs.usage u
         WHERE u.written_by >= cursor.from_xid AND u.written_by < horizon
         GROUP BY u.organization_id
    ), closed AS (
        INSERT INTO polar_jobs.usage_windows (window_end, from_xid, to_xid, event_timestamp, readings)
        SELECT ending, cursor.from_xid, horizon, least(ending, clock), sum(c.readings)
          FROM counted c HAVING count(*) > 0
        RETURNING *
    ), judged AS (
        SELECT c.*, CASE
                   WHEN c.organization_id = self_organization THEN 'excluded: the self organization is never metered'
                   WHEN o.deleted_at IS NOT NULL THEN 'excluded: the organization is deleted'
                   WHEN c.total = 0 THEN 'excluded: recorded before metering began'
                   WHEN c.total > 9223372036854775807 THEN 'refused: ' || c.total || ' in one window is more than an event can carry'
               END AS verdict, o.id IS NULL AS unknown
          FROM counted c LEFT JOIN polar_jobs.organizations o ON o.id = c.organization_id
    ), frozen AS (
        INSERT INTO polar_jobs.usage_reports
               (window_end, organization_id, quantity, readings, history, external_id, state, reason)
        SELECT ending, j.organization_id, least(j.total, 9223372036854775807), j.readings,
               least(j.history, 9223372036854775807),
               'events_ingested-' || j.organization_id || '-' || extract(epoch FROM ending)::bigint,
               coalesce(split_part(j.verdict, ': ', 1), CASE WHEN j.unknown THEN 'waiting' ELSE 'frozen' END),
               substr(j.verdict, strpos(j.verdict, ': ') + 2)
          FROM judged j
    )
    UPDATE polar_jobs.usage_cursor c
       SET from_xid = horizon, window_end = ending, written_by = pg_current_xact_id()::text::bigint
      FROM closed
    RETURNING closed.*;
END $$;

-- After a restore into another cluster transaction ids start anew, so the stored ones must be
-- told apart: the copies, whose fate the copied cursor knows, from what was written here since.
--
-- A copy was written by the transaction that restored it, not by the one it names; what was
-- written here was written by the transaction it names or by a savepoint of it, which is younger.
-- Copies below the copied cursor were counted: they get 0, which no window holds. All others are
-- stamped with this transaction, so that the next window holds them.
CREATE FUNCTION polar_jobs.adopt_usage(OUT uncounted bigint, OUT counted bigint)
    RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    cursor polar_jobs.usage_cursor;
    restored_by bigint;
BEGIN
    LOCK TABLE polar_jobs.usage IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO STRICT cursor FROM polar_jobs.usage_cursor FOR UPDATE;
    SELECT c.xmin::text::bigint INTO restored_by FROM polar_jobs.usage_cursor c;
    IF restored_by = (cursor.written_by & 4294967295)
       AND cursor.from_xid <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint THEN
        RETURN;
    END IF;
    -- The last transaction that restored: copies name other transactions than their writer, and
    -- many different ones for one writer.
    SELECT greatest(restored_by, coalesce(max(writer), 0)) INTO restored_by
      FROM (SELECT u.xmin::text::bigint AS writer FROM polar_jobs.usage u
             GROUP BY 1 HAVING count(DISTINCT u.written_by) > 1 OR max(u.written_by) > max(u.xmin::text::bigint)) restores;
    UPDATE polar_jobs.usage SET written_by = 0
     WHERE written_by > 0 AND written_by < cursor.from_xid AND xmin::text::bigint <= restored_by;
    GET DIAGNOSTICS counted = ROW_COUNT;
    UPDATE polar_jobs.usage SET written_by = pg_current_xact_id()::text::bigint WHERE written_by > 0;
    GET DIAGNOSTICS uncounted = ROW_COUNT;
    UPDATE polar_jobs.usage_windows
       SET pruned_at = coalesce(pruned_at, now()), emptied_at = coalesce(emptied_at, now());
    -- Not this transaction's id: an older one may still write once the lock is gone.
    UPDATE polar_jobs.usage_cursor SET from_xid = pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                                       written_by = pg_current_xact_id()::text::bigint;
    RETURN NEXT;
END $$;
