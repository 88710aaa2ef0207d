-- Usage, counted by transaction and not by time. Every reading carries the id of the transaction
-- that wrote it; a window closes at the oldest transaction that is still running, and holds
-- exactly what the transactions from the last such horizon to this one wrote. A late commit lies
-- at or above the horizon and falls into a later window; nothing is counted twice, nothing is
-- missed, and no row is ever marked.

-- The time line of this Postgres: a promoted standby and a recovery to a point in time begin a new one.
-- Null where the server does not tell.
CREATE FUNCTION polar_jobs.timeline() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN left(pg_walfile_name(pg_current_wal_lsn()), 8);
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

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
    written_by bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    -- The time line that it was written on. On another one commits may be missing, and with them
    -- windows that Polar has: metering stops and says so.
    timeline text DEFAULT polar_jobs.timeline()
);
-- Metering starts at the installation: the table of readings is born empty with it. A transaction that
-- runs already may still write to it later.
INSERT INTO polar_jobs.usage_cursor (from_xid) VALUES (pg_snapshot_xmin(pg_current_snapshot())::text::bigint);

-- Whether the tables were restored from another cluster and not adopted since.
CREATE FUNCTION polar_jobs.usage_was_restored() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT c.xmin::text::bigint <> (c.written_by & 4294967295)
        OR c.from_xid > pg_snapshot_xmin(pg_current_snapshot())::text::bigint
      FROM polar_jobs.usage_cursor c
$$;
-- What was restored and what was written since are told apart by who wrote the row, which a row that moves
-- to its partition forgets.
UPDATE polar_jobs.partitioned_tables SET movable = 'NOT polar_jobs.usage_was_restored()' WHERE parent = 'usage';

-- The 64 bits of a row's xmin: the youngest id that ends with these 32 and is not above `newest`.
CREATE FUNCTION polar_jobs.full_xid(narrow xid, newest bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT newest - ((newest - narrow::text::bigint) & 4294967295)
$$;

-- One row per closed window that held readings; contiguous: each starts where the one before ended.
CREATE TABLE polar_jobs.usage_windows (
    -- Whole seconds, strictly increasing, part of every event's id at Polar.
    window_end timestamptz PRIMARY KEY CHECK (date_trunc('second', window_end) = window_end),
    from_xid bigint NOT NULL,
    to_xid bigint NOT NULL CHECK (to_xid > from_xid),
    -- What the events say: the window's end, but never ahead of the clock at closing.
    event_timestamp timestamptz NOT NULL CHECK (event_timestamp <= window_end),
    readings bigint NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Set when its readings may be gone, after their retention: they are not counted again.
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
    -- Quantity that is not part of `quantity`: recorded before the cursor's `since`, or between the
    -- organization's deletion and its new creation.
    history bigint NOT NULL DEFAULT 0,
    -- Which life of the organization used it: 0, and one more with every creation after a deletion.
    life integer NOT NULL DEFAULT 0,
    external_id text NOT NULL,
    -- frozen: to be sent, once its organization has a customer at Polar · waiting: the organization is not created yet · reported · refused: by
    -- Polar, `reason` says why · excluded: not to be sent, `reason` says why
    state text NOT NULL CHECK (state IN ('frozen', 'waiting', 'reported', 'refused', 'excluded')),
    reason text CHECK ((reason IS NULL) = (state IN ('frozen', 'waiting', 'reported'))),
    -- The request that Polar answered, and whether it was new to Polar. A request with both kinds
    -- cannot be told apart row by row: 'inserted or duplicate'. No foreign key: a request goes once no
    -- report names it, and a key would look at all reports again for each.
    request_id bigint,
    answer text CHECK (answer IN ('inserted', 'duplicate', 'inserted or duplicate')),
    reported_at timestamptz CHECK ((reported_at IS NOT NULL) = (state = 'reported')),
    PRIMARY KEY (window_end, organization_id)
) WITH (fillfactor = 80);
CREATE INDEX usage_reports_organization ON polar_jobs.usage_reports (organization_id, window_end);
CREATE INDEX usage_reports_unreported ON polar_jobs.usage_reports (window_end, organization_id)
    WHERE state IN ('frozen', 'waiting');

-- What the nightly proof found when it ran last: one row.
CREATE TABLE polar_jobs.usage_proofs (
    last boolean PRIMARY KEY DEFAULT true CHECK (last),
    at timestamptz NOT NULL DEFAULT now(),
    difference numeric NOT NULL,
    window_faults integer NOT NULL
);

-- What the reports of an organization and month came to, once their retention is over and they are
-- deleted. A month holds the windows that end in it, in UTC.
CREATE TABLE polar_jobs.usage_months (
    organization_id uuid NOT NULL,
    month date NOT NULL CHECK (extract(day FROM month) = 1),
    state text NOT NULL CHECK (state IN ('reported', 'excluded')),
    reports bigint NOT NULL,
    readings numeric NOT NULL,
    quantity numeric NOT NULL,
    history numeric NOT NULL,
    PRIMARY KEY (organization_id, month, state)
);

-- Closes a window and freezes one count per organization, in the caller's transaction. Returns
-- nothing where no transaction since the last window wrote a reading; then nothing changes.
-- Two callers at once: the second waits for the first and finds what is left, as a rule nothing.
--
-- `clock` is the time of closing, that of Postgres: a worker's clock decides nothing. Only tests give
-- another. Fresh readings are not in the statistics yet, and a plan that sorts ten million rows takes
-- four times as long as one that hashes them: sorting is off.
CREATE FUNCTION polar_jobs.close_usage_window(self_organization uuid, clock timestamptz DEFAULT NULL)
    RETURNS SETOF polar_jobs.usage_windows LANGUAGE plpgsql
    SET enable_sort = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    cursor polar_jobs.usage_cursor;
    restored boolean;
    horizon bigint;
    ending timestamptz;
BEGIN
    -- No rows move into a partition that the count below does not know yet.
    PERFORM pg_advisory_xact_lock_shared(polar_jobs.partitions_lock('usage'));
    -- In the order of `adopt_usage`, which holds all of both.
    LOCK TABLE ONLY polar_jobs.usage IN ROW EXCLUSIVE MODE;
    SELECT * INTO STRICT cursor FROM polar_jobs.usage_cursor FOR UPDATE;
    clock := coalesce(clock, clock_timestamp());
    -- A statement of its own: its snapshot is younger than the lock.
    SELECT polar_jobs.usage_was_restored(), pg_snapshot_xmin(pg_current_snapshot())::text::bigint INTO restored, horizon;
    IF restored THEN
        RAISE EXCEPTION 'the tables of polar_jobs were restored from another cluster: transaction ids of usage mean nothing here'
            USING HINT = 'Run "polar-jobs usage adopt" once; until then no usage is counted and none is lost.',
                  ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF cursor.timeline <> polar_jobs.timeline() THEN
        RAISE EXCEPTION 'this Postgres was promoted or recovered since the last window: the last commits may be missing, and with them windows that Polar has'
            USING HINT = 'Run "polar-jobs usage adopt" if nothing is missing, else "polar-jobs usage adopt --reported-until TIME"; until then no usage is counted and none is lost.',
                  ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF horizon = cursor.from_xid THEN RETURN; END IF;
    PERFORM polar_jobs.defer_later_lives(cursor.from_xid, horizon);
    ending := greatest(date_trunc('second', clock), cursor.window_end + interval '1 second');

    RETURN QUERY
    WITH counted AS MATERIALIZED (
        SELECT u.organization_id, count(*) AS readings,
               coalesce(sum(u.quantity) FILTER (WHERE cursor.since IS NULL OR u.recorded_at >= cursor.since), 0) AS total,
               coalesce(sum(u.quantity) FILTER (WHERE u.recorded_at < cursor.since), 0) AS history
          FROM polar_jobs.usage u
         WHERE u.written_by >= cursor.from_xid AND u.written_by < horizon
         GROUP BY u.organization_id
    ), ended AS MATERIALIZED (
        -- Of organizations that were ever deleted: where the life ended that these readings belong to.
        SELECT r.organization_id, min(d.deleted_at) FILTER (WHERE d.recreated_at IS NULL OR d.recreated_at > r.first) AS deleted_at,
               count(*) FILTER (WHERE d.recreated_at <= r.first)::integer AS life
          FROM (SELECT u.organization_id, min(u.written_at) AS first FROM polar_jobs.usage u
                 WHERE u.written_by >= cursor.from_xid AND u.written_by < horizon
                   AND u.organization_id IN (SELECT x.organization_id FROM polar_jobs.organization_deletions x)
                 GROUP BY 1) r
          JOIN polar_jobs.organization_deletions d ON d.organization_id = r.organization_id
         GROUP BY 1
    ), too_late AS (
        SELECT u.organization_id, sum(u.quantity) FILTER (WHERE cursor.since IS NULL OR u.recorded_at >= cursor.since) AS total
          FROM polar_jobs.usage u JOIN ended e ON e.organization_id = u.organization_id AND u.written_at > e.deleted_at
         WHERE u.written_by >= cursor.from_xid AND u.written_by < horizon
         GROUP BY 1
    ), closed AS (
        INSERT INTO polar_jobs.usage_windows (window_end, from_xid, to_xid, event_timestamp, readings)
        SELECT ending, cursor.from_xid, horizon, least(ending, clock), sum(c.readings)
          FROM counted c HAVING count(*) > 0
        RETURNING *
    ), sums AS (
        SELECT c.organization_id, c.readings, c.total - coalesce(l.total, 0) AS total,
               c.history + coalesce(l.total, 0) AS history, l.total > 0 AS late,
               coalesce(e.life, 0) AS life, o.id IS NULL AS unknown
          FROM counted c LEFT JOIN too_late l ON l.organization_id = c.organization_id
                         LEFT JOIN ended e ON e.organization_id = c.organization_id
                         LEFT JOIN polar_jobs.organizations o ON o.id = c.organization_id
    ), judged AS (
        SELECT s.*, CASE
                   WHEN s.organization_id = self_organization THEN 'excluded: the self organization is never metered'
                   WHEN s.total = 0 AND s.late THEN 'excluded: recorded after the organization was deleted'
                   WHEN s.total = 0 THEN 'excluded: recorded before metering began'
                   WHEN s.total > 9223372036854775807 THEN 'refused: ' || s.total || ' in one window is more than an event can carry'
               END AS verdict
          FROM sums s
    ), frozen AS (
        INSERT INTO polar_jobs.usage_reports
               (window_end, organization_id, quantity, readings, history, life, external_id, state, reason)
        SELECT ending, j.organization_id, least(j.total, 9223372036854775807), j.readings,
               least(j.history, 9223372036854775807), j.life,
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

-- Of each organization a window holds one life, because it sends one event: readings of a later life
-- move to the next window. So do readings written after a deletion or creation that is not applied yet.
CREATE FUNCTION polar_jobs.defer_later_lives(from_xid bigint, horizon bigint) RETURNS void LANGUAGE sql
    SET enable_sort = off SET jit = off SET plan_cache_mode = force_custom_plan AS $$
    WITH undecided AS MATERIALIZED (
        SELECT * FROM polar_jobs.undecided_lives()
    ), begun AS MATERIALIZED (
        SELECT u.organization_id, min(u.written_at) AS first FROM polar_jobs.usage u
         WHERE u.written_by >= defer_later_lives.from_xid AND u.written_by < defer_later_lives.horizon
           AND u.organization_id IN (
               SELECT d.organization_id FROM polar_jobs.organization_deletions d WHERE d.recreated_at IS NOT NULL)
         GROUP BY 1
    ), later AS (
        SELECT organization_id, min(since) AS since
          FROM (SELECT b.organization_id, d.recreated_at AS since
                  FROM begun b JOIN polar_jobs.organization_deletions d
                    ON d.organization_id = b.organization_id AND d.recreated_at > b.first
                UNION ALL SELECT * FROM undecided) lives
         GROUP BY 1)
    UPDATE polar_jobs.usage u SET written_by = pg_current_xact_id()::text::bigint
      FROM later l
     WHERE u.written_by >= defer_later_lives.from_xid AND u.written_by < defer_later_lives.horizon
       AND u.organization_id = l.organization_id AND u.written_at >= l.since
$$;

-- Counts go out while the organization has the customer that used them. Of a life that ended: until
-- that customer is deleted, which waits for them. Of the present life: once the customer of the life
-- before is gone, and its own is there.
CREATE VIEW polar_jobs.organization_lives AS
SELECT o.id AS organization_id, o.deleted_at IS NOT NULL AS deleted,
       (SELECT count(*) FROM polar_jobs.organization_deletions d
         WHERE d.organization_id = o.id AND d.recreated_at IS NOT NULL)::integer AS life,
       o.erasure_event IS NOT NULL AS erasing, o.polar_customer_id IS NOT NULL AND o.customer_lost_at IS NULL AS has_customer
  FROM polar_jobs.organizations o;

-- Whether a window is missing that holds usage of a life that ended, or whether some of it might
-- still be committed.
CREATE FUNCTION polar_jobs.uncounted_before_deletion(organization uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM (SELECT max(d.applied_by) AS applied_by, max(d.deleted_at) AS deleted_at
                       FROM polar_jobs.organization_deletions d WHERE d.organization_id = organization) d
         WHERE pg_snapshot_xmin(pg_current_snapshot())::text::bigint <= d.applied_by
            OR EXISTS (SELECT FROM polar_jobs.usage u
                        WHERE u.written_by >= (SELECT c.from_xid FROM polar_jobs.usage_cursor c)
                          AND u.organization_id = organization AND u.written_at <= d.deleted_at))
$$;

-- The same, or whether counts or costs of such a life are still to be reported: the customer must stay
-- at Polar until then.
CREATE FUNCTION polar_jobs.unreported_before_deletion(organization uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT polar_jobs.uncounted_before_deletion(organization) OR EXISTS (
        SELECT FROM (SELECT max(d.deleted_at) AS deleted_at, bool_or(d.recreated_at IS NULL) AS deleted,
                            count(*) FILTER (WHERE d.recreated_at IS NOT NULL) AS life
                       FROM polar_jobs.organization_deletions d WHERE d.organization_id = organization) d
         WHERE EXISTS (SELECT FROM polar_jobs.usage_reports r
                        WHERE r.organization_id = organization AND r.state IN ('frozen', 'waiting')
                          AND (d.deleted OR r.life < d.life))
            OR EXISTS (SELECT FROM polar_jobs.costs c
                        WHERE c.organization_id = organization AND c.state = 'waiting' AND c.written_at <= d.deleted_at
                          -- Of one transaction with a deletion and a new creation it may be the new life's.
                          AND (d.deleted OR d.life > (SELECT count(*) FROM polar_jobs.organization_deletions x
                                                       WHERE x.organization_id = organization AND x.recreated_at <= c.written_at))))
$$;

-- Deletes readings of windows that closed before `before` and all of whose counts are reported or
-- excluded: whole days where possible. The windows and reports stay, so the books can be read, though
-- no longer be counted again. Returns how many partitions were dropped, null where somebody holds the table.
CREATE FUNCTION polar_jobs.prune_usage(before timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    counted_to bigint;
BEGIN
    UPDATE polar_jobs.usage_windows w SET pruned_at = clock_timestamp()
     WHERE w.pruned_at IS NULL AND w.closed_at < before AND NOT EXISTS (
           SELECT FROM polar_jobs.usage_reports r
            WHERE r.window_end = w.window_end AND r.state NOT IN ('reported', 'excluded'));
    SELECT coalesce((SELECT min(w.from_xid) FROM polar_jobs.usage_windows w WHERE w.closed_at >= before), c.from_xid)
      INTO counted_to FROM polar_jobs.usage_cursor c;
    -- A reading stays while its window may still be counted again, and with it all of its day.
    RETURN polar_jobs.drop_partitions('usage', before, format(
        'r.written_by >= %s OR (SELECT coalesce(range_agg(int8range(w.from_xid, w.to_xid)), ''{}'')
                                  FROM polar_jobs.usage_windows w WHERE w.pruned_at IS NULL) @> r.written_by', counted_to));
END $$;

-- Adds up to `batch` reports that were decided before `before` to their months and deletes them;
-- returns how many. Their windows and requests go with the last of them; a window stays while one before it
-- may still be counted again, or a reading of it is left in a day that is kept: the proof would miss it there.
CREATE FUNCTION polar_jobs.fold_usage_reports(before timestamptz, batch integer) RETURNS bigint LANGUAGE plpgsql
    SET timezone = 'UTC' AS $$
DECLARE
    folded bigint;
BEGIN
    WITH old AS (
        DELETE FROM polar_jobs.usage_reports WHERE (window_end, organization_id) IN (
            SELECT r.window_end, r.organization_id FROM polar_jobs.usage_reports r
              JOIN polar_jobs.usage_windows w ON w.window_end = r.window_end
             WHERE w.pruned_at IS NOT NULL AND w.closed_at < before
               AND r.state IN ('reported', 'excluded') AND coalesce(r.reported_at, w.closed_at) < before
             ORDER BY r.window_end, r.organization_id LIMIT batch FOR UPDATE OF r SKIP LOCKED)
        RETURNING *
    ), months AS (
        INSERT INTO polar_jobs.usage_months AS m (organization_id, month, state, reports, readings, quantity, history)
        SELECT organization_id, date_trunc('month', window_end)::date, state, count(*), sum(readings), sum(quantity), sum(history)
          FROM old GROUP BY 1, 2, 3
        ON CONFLICT (organization_id, month, state) DO UPDATE
           SET reports = m.reports + excluded.reports, readings = m.readings + excluded.readings,
               quantity = m.quantity + excluded.quantity, history = m.history + excluded.history)
    SELECT count(*) INTO folded FROM old;
    IF folded < batch THEN
        DELETE FROM polar_jobs.usage_windows w
         WHERE w.pruned_at IS NOT NULL AND w.closed_at < before
           AND w.window_end < coalesce(
                   (SELECT min(o.window_end) FROM polar_jobs.usage_windows o WHERE o.pruned_at IS NULL), 'infinity')
           AND NOT EXISTS (SELECT FROM polar_jobs.usage_reports r WHERE r.window_end = w.window_end)
           AND NOT EXISTS (SELECT FROM polar_jobs.usage u WHERE u.written_by >= w.from_xid AND u.written_by < w.to_xid);
        DELETE FROM polar_jobs.usage_requests q
         WHERE q.answered_at < before
           AND NOT EXISTS (SELECT FROM polar_jobs.usage_reports r WHERE r.request_id = q.id);
    END IF;
    RETURN folded;
END $$;

-- Makes metering go on in a copy of the database. Returns nothing where there was nothing to do.
--
-- After a restore into another cluster transaction ids start anew, so the stored ones must be
-- told apart: the copies, whose fate the copied cursor knows, from what was written here since.
-- A copy was written by the transaction that restored it, not by the one it names; what was
-- written here was written by the transaction it names or by a savepoint of it, which is younger.
-- Copies below the copied cursor were counted: they get 0, which no window holds. All others are
-- stamped with this transaction, so that the next window holds them.
--
-- A copy that lacks the last commits may lack windows that Polar has. What was written until
-- `reported_until` lies in one of them: it gets 0 as well, and no later window is named like them.
-- Ends are rounded down to the second, so the whole second belongs to the window.
CREATE FUNCTION polar_jobs.adopt_usage(reported_until timestamptz, OUT uncounted bigint, OUT counted bigint)
    RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    cursor polar_jobs.usage_cursor;
    restored_by bigint;
    newest bigint;
    native boolean;
    missing bigint := 0;
    here text := polar_jobs.timeline();
    reported_before CONSTANT timestamptz := date_trunc('second', reported_until) + interval '1 second';
BEGIN
    IF reported_until > clock_timestamp() THEN
        RAISE EXCEPTION 'Polar cannot have windows of a time to come: it is %', clock_timestamp()
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOCK TABLE polar_jobs.usage IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO STRICT cursor FROM polar_jobs.usage_cursor FOR UPDATE;
    native := NOT polar_jobs.usage_was_restored();
    IF native AND reported_until IS NULL AND cursor.timeline IS NOT DISTINCT FROM here THEN
        RETURN;
    END IF;
    counted := 0;
    IF NOT native THEN
        -- The last transaction that restored: copies name other transactions than their writer, and
        -- many different ones for one writer. Nobody else moved rows here: see `movable` above.
        newest := pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1;
        SELECT greatest(polar_jobs.full_xid(c.xmin, newest), (
                   SELECT max(writer)
                     FROM (SELECT polar_jobs.full_xid(u.xmin, newest) AS writer FROM polar_jobs.usage u
                            GROUP BY 1 HAVING count(DISTINCT u.written_by) > 1
                                           OR max(u.written_by) > max(polar_jobs.full_xid(u.xmin, newest))) restores))
          INTO restored_by FROM polar_jobs.usage_cursor c;
        UPDATE polar_jobs.usage SET written_by = 0
         WHERE written_by > 0 AND written_by < cursor.from_xid AND polar_jobs.full_xid(xmin, newest) <= restored_by;
        GET DIAGNOSTICS counted = ROW_COUNT;
    END IF;
    UPDATE polar_jobs.usage SET written_by = 0
     WHERE written_by > 0 AND (NOT native OR written_by >= cursor.from_xid) AND written_at < reported_before;
    GET DIAGNOSTICS missing = ROW_COUNT;
    counted := counted + missing;
    IF native THEN
        SELECT count(*) INTO uncounted FROM polar_jobs.usage WHERE written_by >= cursor.from_xid;
    ELSE
        UPDATE polar_jobs.usage SET written_by = pg_current_xact_id()::text::bigint WHERE written_by > 0;
        GET DIAGNOSTICS uncounted = ROW_COUNT;
        UPDATE polar_jobs.usage_windows SET pruned_at = coalesce(pruned_at, clock_timestamp());
        UPDATE polar_jobs.organization_deletions SET applied_by = 0;
        -- Not this transaction's id: an older one may still write once the lock is gone.
        cursor.from_xid := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    END IF;
    UPDATE polar_jobs.usage_cursor
       SET from_xid = cursor.from_xid, timeline = here, written_by = pg_current_xact_id()::text::bigint,
           window_end = greatest(window_end, reported_before);
    RETURN NEXT;
END $$;

-- Costs that wait: why one is never reported, if so; which cost is of the same run, if one is, so that one of both is
-- reported: that which Polar has, or may have, or the first (a lower id may be committed later, when a higher one
-- was sent already); and whether it may go to Polar now. They wait for their organization, and for the customer of
-- their life, as usage does; the self organization needs neither. Costs of lives that are not decided yet are left out.
CREATE FUNCTION polar_jobs.judged_costs(self_organization uuid)
    RETURNS TABLE (id bigint, never text, same_run_as bigint, may_go boolean) LANGUAGE sql STABLE AS $$
    SELECT j.id, j.never, j.same_run_as,
           j.never IS NULL AND j.same_run_as IS NULL AND coalesce(j.of_self OR CASE
               WHEN j.ended THEN j.erasing ELSE j.has_customer AND NOT j.erasing END, false)
      FROM (SELECT c.id, c.organization_id IS NOT DISTINCT FROM self_organization AS of_self,
                   l.deleted OR c.life < l.life AS ended, l.erasing, l.has_customer, CASE
                       WHEN c.cost_usd IS NULL OR c.cost_usd = 0 THEN 'there is no cost to report'
                       WHEN c.source = 'organization_review' AND c.organization_id = self_organization
                           THEN 'a review of the self organization'
                       WHEN EXISTS (SELECT FROM polar_jobs.organization_deletions d
                                     WHERE d.organization_id = c.organization_id AND c.written_at > d.deleted_at
                                       AND (d.recreated_at IS NULL OR c.written_at < d.recreated_at))
                           THEN 'recorded after the organization was deleted'
                       WHEN (l.deleted OR c.life < l.life) AND NOT l.erasing
                            AND c.organization_id IS DISTINCT FROM self_organization
                           THEN 'its customer at Polar was deleted before it was written'
                   END AS never,
                   (SELECT o.id FROM polar_jobs.costs o
                     WHERE o.usage_id = c.usage_id AND o.organization_id = c.organization_id AND o.source = c.source
                       AND coalesce(o.context, polar_jobs.default_context(o.source))
                         = coalesce(c.context, polar_jobs.default_context(c.source))
                       AND o.state IN ('waiting', 'reported') AND o.cost_usd > 0
                       AND (o.state = 'reported', o.sends > 0, c.id) > (c.state = 'reported', c.sends > 0, o.id)
                     ORDER BY o.state = 'reported' DESC, o.sends > 0 DESC, o.id LIMIT 1) AS same_run_as
              FROM (SELECT *, (SELECT count(*) FROM polar_jobs.organization_deletions d
                                WHERE d.organization_id = waiting.organization_id
                                  AND d.recreated_at <= waiting.written_at)::integer AS life
                      FROM polar_jobs.costs waiting
                     WHERE waiting.state = 'waiting' AND NOT EXISTS (
                           SELECT FROM polar_jobs.undecided_lives() u
                            WHERE u.organization_id = waiting.organization_id AND waiting.written_at >= u.since)) c
              LEFT JOIN polar_jobs.organization_lives l ON l.organization_id = c.organization_id) j
$$;
