-- The front door's one transaction: what came in and the jobs that follow from it.

-- Stores events and writes their jobs, keys honoured, in one call. One entry of the first arrays
-- per event, one entry of the second per job; `causes` names each job's event. An event that is
-- there already is left alone, and its jobs are not written again.
--
-- The caller gives the ids (see `reserve_events`), so that a job's payload can name its event.
-- `patient`: wait for an ordering key that another transaction holds. Otherwise the events whose
-- jobs need such a key are left out and named in `contended`, so that they hold up nobody else.
CREATE FUNCTION polar_jobs.accept_events(
    source text, ids bigint[], external_ids text[], types text[], occurred_ats timestamptz[],
    changes jsonb[], bodies bytea[], outcomes text[],
    causes bigint[], kinds text[], payloads jsonb[], queues text[], run_ats timestamptz[],
    priorities smallint[], unique_keys text[], ordering_keys text[], max_attempts integer[],
    debounce_untils timestamptz[], patient boolean,
    OUT fresh bigint[], OUT contended bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    held bigint[];
BEGIN
    -- The keys first, and in one order: two calls can then never wait for each other.
    IF patient THEN
        PERFORM pg_advisory_xact_lock(wanted.lock)
           FROM (SELECT DISTINCT polar_jobs.ordering_lock(given.key) AS lock FROM unnest(ordering_keys) AS given (key)
                  WHERE given.key IS NOT NULL ORDER BY lock) wanted;
    ELSE
        held := ARRAY(SELECT wanted.lock
                        FROM (SELECT DISTINCT polar_jobs.ordering_lock(given.key) AS lock
                                FROM unnest(ordering_keys) AS given (key) WHERE given.key IS NOT NULL) wanted
                       WHERE NOT pg_try_advisory_xact_lock(wanted.lock));
        IF cardinality(held) > 0 THEN
            SELECT array_agg(DISTINCT job.cause) INTO contended
              FROM unnest(causes, ordering_keys) AS job (cause, key)
             WHERE polar_jobs.ordering_lock(job.key) = ANY (held);
        END IF;
    END IF;
    contended := coalesce(contended, '{}');

    WITH stored AS (
        INSERT INTO polar_jobs.stored_events AS event
               (id, source, external_id, type, occurred_at, change, body, outcome, handled_at)
        OVERRIDING SYSTEM VALUE
        SELECT given.id, source, given.external_id, given.type, given.occurred_at, given.change, given.body,
               given.outcome, CASE WHEN given.outcome IS NOT NULL THEN now() END
          FROM unnest(ids, external_ids, types, occurred_ats, changes, bodies, outcomes)
               AS given (id, external_id, type, occurred_at, change, body, outcome)
         WHERE given.id <> ALL (contended)
        ON CONFLICT ON CONSTRAINT stored_events_source_external_id_key DO NOTHING
        RETURNING event.id
    )
    SELECT coalesce(array_agg(stored.id), '{}') INTO fresh FROM stored;

    IF cardinality(fresh) < cardinality(ids) THEN
        SELECT array_agg(job.cause ORDER BY place), array_agg(job.kind ORDER BY place),
               array_agg(job.payload ORDER BY place), array_agg(job.queue ORDER BY place),
               array_agg(job.run_at ORDER BY place), array_agg(job.priority ORDER BY place),
               array_agg(job.unique_key ORDER BY place), array_agg(job.ordering_key ORDER BY place),
               array_agg(job.attempts ORDER BY place), array_agg(job.debounce_until ORDER BY place)
          INTO causes, kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys,
               max_attempts, debounce_untils
          FROM unnest(causes, kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys,
                      max_attempts, debounce_untils) WITH ORDINALITY
               AS job (cause, kind, payload, queue, run_at, priority, unique_key, ordering_key,
                       attempts, debounce_until, place)
         WHERE job.cause = ANY (fresh);
    END IF;
    IF cardinality(kinds) > 0 THEN
        PERFORM polar_jobs.insert_jobs(kinds, payloads, queues, run_ats, priorities, unique_keys,
                                       ordering_keys, max_attempts, debounce_untils, causes);
    END IF;
END $$;

-- Ids for events that are about to be stored.
CREATE FUNCTION polar_jobs.reserve_events(many integer) RETURNS SETOF bigint LANGUAGE sql VOLATILE AS $$
    SELECT nextval('polar_jobs.stored_events_id_seq') FROM generate_series(1, many)
$$;
