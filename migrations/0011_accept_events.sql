-- What came in and the jobs that follow from it, stored in one transaction.

-- Stores events and writes their jobs, keys honoured, in one call. One entry of the first arrays
-- per event, one entry of the second per job; `causes` names each job's event. An event that is
-- there already is left alone, and its jobs are not written again; but a delivery whose event failed
-- is run again when Polar sends it again and it starts jobs. Returns the ids of those whose jobs were written.
--
-- The caller gives the ids, drawn from the sequence of `stored_events`, so that a job's payload can name
-- its event. Those of changes come from `reserve_changes`.
CREATE FUNCTION polar_jobs.accept_events(
    source text, ids bigint[], external_ids text[], types text[], occurred_ats timestamptz[],
    changes jsonb[], bodies bytea[], outcomes text[],
    causes bigint[], kinds text[], payloads json[], queues text[], run_ats timestamptz[],
    priorities smallint[], unique_keys text[], ordering_keys text[], max_attempts integer[]
) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
    -- Events that nobody stored before, as keys of an object.
    fresh jsonb;
    -- By the id given, the event of an earlier delivery to be run again.
    again jsonb := '{}';
    accepted bigint[];
BEGIN
    -- Behind a pooler the sessions that write deliveries have no limit of their own, and whoever gave up on this call
    -- would leave it waiting.
    IF current_setting('lock_timeout') = '0' THEN
        PERFORM set_config('lock_timeout', '100ms', true);
    END IF;
    -- Nearly everything that comes is new. Only where something is not is each looked at, and the ids that were
    -- written before that was seen stay as dead rows.
    BEGIN
        WITH events AS (
            INSERT INTO polar_jobs.stored_events (id, received_at, source, external_id, type, occurred_at, change, body, outcome)
            OVERRIDING SYSTEM VALUE
            SELECT given.id, polar_jobs.received_at(given.type), source, given.external_id, given.type, given.occurred_at, given.change, given.body, given.outcome
              -- Arrays side by side: with `unnest` of several in FROM, Postgres writes down each of them first.
              FROM (SELECT unnest(ids) AS id, unnest(external_ids) AS external_id, unnest(types) AS type,
                           unnest(occurred_ats) AS occurred_at, unnest(changes) AS change, unnest(bodies) AS body,
                           unnest(outcomes) AS outcome) given
        )
        -- In the order of the ids, so that no two calls wait for each other.
        INSERT INTO polar_jobs.event_ids (external_id, source, event_id)
        SELECT given.external_id, source, given.id
          FROM (SELECT unnest(ids) AS id, unnest(external_ids) AS external_id) given
         WHERE given.external_id IS NOT NULL ORDER BY given.external_id COLLATE "C";
        accepted := ids;
    EXCEPTION WHEN unique_violation THEN
        WITH inserted AS (
            INSERT INTO polar_jobs.event_ids AS known (external_id, source, event_id)
            -- In the order of the ids, so that no two calls wait for each other.
            SELECT given.external_id, source, given.id FROM unnest(ids, external_ids) AS given (id, external_id)
             WHERE given.external_id IS NOT NULL ORDER BY given.external_id COLLATE "C", given.id
            ON CONFLICT DO NOTHING RETURNING known.event_id
        )
        SELECT coalesce(jsonb_object_agg(event.id, true), '{}') INTO fresh
          FROM (SELECT inserted.event_id AS id FROM inserted
                 UNION ALL
                SELECT given.id FROM unnest(ids, external_ids) AS given (id, external_id) WHERE given.external_id IS NULL) event;
        INSERT INTO polar_jobs.stored_events (id, received_at, source, external_id, type, occurred_at, change, body, outcome)
        OVERRIDING SYSTEM VALUE
        SELECT given.id, polar_jobs.received_at(given.type), source, given.external_id, given.type, given.occurred_at, given.change, given.body, given.outcome
          FROM unnest(ids, external_ids, types, occurred_ats, changes, bodies, outcomes)
               AS given (id, external_id, type, occurred_at, change, body, outcome)
         WHERE fresh ? given.id::text;
        accepted := ARRAY(SELECT id FROM unnest(ids) id WHERE fresh ? id::text);

        IF source = 'polar' THEN
            again := polar_jobs.reopen_failed(ids, external_ids, fresh, causes);
            accepted := accepted || ARRAY(SELECT jsonb_object_keys(again)::bigint);
        END IF;
        SELECT array_agg(coalesce((again ->> job.cause::text)::bigint, job.cause) ORDER BY place),
               array_agg(job.kind ORDER BY place),
               -- What names the event names the one that is there.
               array_agg(CASE WHEN again ? job.cause::text AND job.payload -> 'event' IS NOT NULL
                              THEN polar_jobs.merge_payload(job.payload, json_build_object('event', again -> job.cause::text))
                              ELSE job.payload END ORDER BY place),
               array_agg(job.queue ORDER BY place), array_agg(job.run_at ORDER BY place),
               array_agg(job.priority ORDER BY place), array_agg(job.unique_key ORDER BY place),
               array_agg(job.ordering_key ORDER BY place), array_agg(job.attempts ORDER BY place)
          INTO causes, kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys, max_attempts
          FROM unnest(causes, kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys, max_attempts)
               WITH ORDINALITY
               AS job (cause, kind, payload, queue, run_at, priority, unique_key, ordering_key, attempts, place)
         WHERE fresh ? job.cause::text OR again ? job.cause::text;
    END;
    IF cardinality(kinds) > 0
       AND NOT polar_jobs.store_first(polar_jobs.draw_ids(cardinality(kinds)), kinds, payloads, queues, run_ats,
                                      priorities, unique_keys, ordering_keys, max_attempts, causes) THEN
        PERFORM polar_jobs.store_jobs(ARRAY(
            SELECT j.job FROM polar_jobs.job_rows(kinds, payloads, queues, run_ats, priorities, unique_keys,
                                                  ordering_keys, max_attempts, causes) j));
    END IF;
    RETURN accepted;
END $$;

-- Changes of one subject are stored in the order of their commits, those in open transactions of the
-- application included. Waits for such a transaction as long as `lock_timeout` says, then raises PJ001, names its subject
-- and who may have it open.
CREATE FUNCTION polar_jobs.lock_changed(ordering_keys text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    key text;
BEGIN
    FOR key IN SELECT DISTINCT k COLLATE "C" FROM unnest(ordering_keys) k WHERE k IS NOT NULL ORDER BY 1 LOOP
        PERFORM polar_jobs.lock_keys_now(ARRAY['ordering/' || key]);
    END LOOP;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'a transaction that is still open changes %: commit or end it (%), then try again',
        replace(key, '/', ' '), polar_jobs.holders_of_keys() USING ERRCODE = 'PJ001';
END $$;

-- Ids for changes that are about to be stored, drawn once their subjects are locked: within a subject the order of the
-- ids is the order of the commits, and a change is not taken for an older one that came too late.
CREATE FUNCTION polar_jobs.reserve_changes(ordering_keys text[], many integer) RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM polar_jobs.lock_changed(ordering_keys);
    RETURN ARRAY(SELECT nextval('polar_jobs.stored_events_id_seq') FROM generate_series(1, many));
END $$;

-- Of deliveries that are not fresh and start jobs (`causes`) those whose event failed: it counts as not handled again.
-- Without a job nobody would ever handle it. Returns the event of each, by the id that was given for the delivery.
CREATE FUNCTION polar_jobs.reopen_failed(ids bigint[], external_ids text[], fresh jsonb, causes bigint[]) RETURNS jsonb
    LANGUAGE sql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    WITH failed AS MATERIALIZED (
        SELECT min(given.id) AS id, known.event_id
          FROM unnest(ids, external_ids) AS given (id, external_id)
          JOIN polar_jobs.event_ids known ON known.source = 'polar' AND known.external_id = given.external_id
         WHERE given.id = ANY (causes) AND NOT fresh ? given.id::text AND NOT fresh ? known.event_id::text
           AND (SELECT e.outcome FROM polar_jobs.external_events e WHERE e.id = known.event_id) = 'failed'
         GROUP BY known.event_id
    ), ends AS (
        DELETE FROM polar_jobs.event_ends e WHERE e.event_id = ANY (ARRAY(SELECT f.event_id FROM failed f))
    ), events AS (
        UPDATE polar_jobs.stored_events e SET outcome = NULL
         WHERE e.id = ANY (ARRAY(SELECT f.event_id FROM failed f)) AND e.outcome = 'failed'
    )
    SELECT coalesce(jsonb_object_agg(f.id, f.event_id), '{}') FROM failed f
$$;
