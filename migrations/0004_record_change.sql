-- What came in and the jobs that follow from it, stored in one transaction.

-- Stores events and writes their jobs, keys honoured, in one call. One entry of the first arrays
-- per event, one entry of the second per job; `causes` names each job's event. An event that is
-- there already is left alone, and its jobs are not written again; but a delivery whose event failed
-- is run again when Polar sends it again. Returns the ids of those whose jobs were written.
--
-- The caller gives the ids, drawn from the sequence of `stored_events`, so that a job's payload can name
-- its event.
CREATE FUNCTION polar_jobs.accept_events(
    source text, ids bigint[], external_ids text[], types text[], occurred_ats timestamptz[],
    changes jsonb[], bodies bytea[], outcomes text[],
    causes bigint[], kinds text[], payloads jsonb[], queues text[], run_ats timestamptz[],
    priorities smallint[], unique_keys text[], ordering_keys text[], max_attempts integer[]
) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
    -- Events that nobody stored before, and whether these are all of them; where not, also as keys of an object.
    named bigint[];
    all_fresh boolean;
    fresh jsonb;
    -- By the id given, the event of an earlier delivery to be run again.
    again jsonb := '{}';
    accepted bigint[];
BEGIN
    IF source = 'app' THEN
        PERFORM polar_jobs.lock_changed(ordering_keys);
    END IF;
    WITH inserted AS (
        INSERT INTO polar_jobs.event_ids AS known (external_id, source, event_id)
        -- In the order of the ids, so that no two calls wait for each other.
        SELECT given.external_id, source, given.id FROM unnest(ids, external_ids) AS given (id, external_id)
         WHERE given.external_id IS NOT NULL ORDER BY given.external_id COLLATE "C", given.id
        ON CONFLICT DO NOTHING RETURNING known.event_id
    )
    SELECT array_agg(inserted.event_id) INTO named FROM inserted;
    -- `array_positions` finds the events without a name of the sender's.
    all_fresh := coalesce(cardinality(named), 0) + cardinality(array_positions(external_ids, NULL)) = cardinality(ids);
    IF NOT all_fresh THEN
        SELECT coalesce(jsonb_object_agg(event.id, true), '{}') INTO fresh
          FROM (SELECT unnest(named) AS id
                 UNION ALL
                SELECT given.id FROM unnest(ids, external_ids) AS given (id, external_id) WHERE given.external_id IS NULL) event;
    END IF;

    INSERT INTO polar_jobs.stored_events (id, source, external_id, type, occurred_at, change, body, outcome)
    OVERRIDING SYSTEM VALUE
    SELECT given.id, source, given.external_id, given.type, given.occurred_at, given.change, given.body, given.outcome
      FROM unnest(ids, external_ids, types, occurred_ats, changes, bodies, outcomes)
           AS given (id, external_id, type, occurred_at, change, body, outcome)
     WHERE all_fresh OR fresh ? given.id::text;
    accepted := CASE WHEN all_fresh THEN ids ELSE ARRAY(SELECT id FROM unnest(ids) id WHERE fresh ? id::text) END;

    IF NOT all_fresh THEN
        IF source = 'polar' THEN
            again := polar_jobs.reopen_failed(ids, external_ids, fresh);
            accepted := accepted || ARRAY(SELECT jsonb_object_keys(again)::bigint);
        END IF;
        SELECT array_agg(coalesce((again ->> job.cause::text)::bigint, job.cause) ORDER BY place),
               array_agg(job.kind ORDER BY place),
               -- What names the event names the one that is there.
               array_agg(CASE WHEN again ? job.cause::text AND job.payload ? 'event'
                              THEN job.payload || jsonb_build_object('event', again -> job.cause::text)
                              ELSE job.payload END ORDER BY place),
               array_agg(job.queue ORDER BY place), array_agg(job.run_at ORDER BY place),
               array_agg(job.priority ORDER BY place), array_agg(job.unique_key ORDER BY place),
               array_agg(job.ordering_key ORDER BY place), array_agg(job.attempts ORDER BY place)
          INTO causes, kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys, max_attempts
          FROM unnest(causes, kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys, max_attempts)
               WITH ORDINALITY
               AS job (cause, kind, payload, queue, run_at, priority, unique_key, ordering_key, attempts, place)
         WHERE fresh ? job.cause::text OR again ? job.cause::text;
    END IF;
    IF cardinality(kinds) > 0 THEN
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
EXCEPTION
    WHEN lock_not_available THEN
        RAISE EXCEPTION 'a transaction that is still open changes %: commit or end it (%), then try again',
            replace(key, '/', ' '), polar_jobs.holders_of_keys() USING ERRCODE = 'PJ001';
    WHEN serialization_failure THEN
        NULL;
END $$;

-- Of deliveries that are not fresh those whose event failed: it counts as not handled again. Returns the
-- event of each, by the id that was given for the delivery.
CREATE FUNCTION polar_jobs.reopen_failed(ids bigint[], external_ids text[], fresh jsonb) RETURNS jsonb
    LANGUAGE sql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    WITH failed AS MATERIALIZED (
        SELECT min(given.id) AS id, known.event_id
          FROM unnest(ids, external_ids) AS given (id, external_id)
          JOIN polar_jobs.event_ids known ON known.source = 'polar' AND known.external_id = given.external_id
         WHERE NOT fresh ? given.id::text AND NOT fresh ? known.event_id::text
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

-- A change, in the caller's transaction --------------------------------------------------------
-- The rules are those of `jobs/change/`, which checks what comes in over HTTP; a test sends the same
-- table of changes through both.

-- What each type of change has in its data, in the order in which faults are listed. A field of
-- `owner`, `user` or `fees` is looked at where that object is given.
CREATE FUNCTION polar_jobs.change_fields() RETURNS TABLE (
    place integer, change text, parent text, field text, required boolean, rule text, low bigint, high bigint
) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    VALUES
    ( 1, 'organization.created', NULL, 'id', true, 'uuid', 0, 0),
    ( 2, 'organization.created', NULL, 'name', true, 'name', 1, 256),
    ( 3, 'organization.created', NULL, 'slug', true, 'text', 1, 500),
    ( 4, 'organization.created', NULL, 'status', false, 'text', 1, 200),
    ( 5, 'organization.created', NULL, 'owner', true, 'object', 0, 0),
    ( 6, 'organization.created', 'owner', 'id', true, 'uuid', 0, 0),
    ( 7, 'organization.created', 'owner', 'email', true, 'email', 0, 0),
    ( 8, 'organization.created', 'owner', 'name', false, 'name', 0, 256),
    ( 9, 'organization.created', NULL, 'fees', false, 'object', 0, 0),
    (10, 'organization.created', 'fees', 'basis_points', true, 'integer', 0, 10000),
    (11, 'organization.created', 'fees', 'fixed', true, 'integer', 0, 2147483647),
    (12, 'organization.created', 'fees', 'subscription_basis_points', true, 'integer', 0, 10000),
    ( 1, 'organization.updated', NULL, 'id', true, 'uuid', 0, 0),
    ( 2, 'organization.updated', NULL, 'name', false, 'name', 1, 256),
    ( 3, 'organization.updated', NULL, 'slug', false, 'text', 1, 500),
    ( 4, 'organization.updated', NULL, 'status', false, 'text', 1, 200),
    ( 1, 'organization.deleted', NULL, 'id', true, 'uuid', 0, 0),
    ( 1, 'member.added', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'member.added', NULL, 'user', true, 'object', 0, 0),
    ( 3, 'member.added', 'user', 'id', true, 'uuid', 0, 0),
    ( 4, 'member.added', 'user', 'email', true, 'email', 0, 0),
    ( 5, 'member.added', 'user', 'name', false, 'name', 0, 256),
    ( 6, 'member.added', NULL, 'role', true, 'role', 0, 0),
    ( 1, 'member.updated', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'member.updated', NULL, 'user_id', true, 'uuid', 0, 0),
    ( 3, 'member.updated', NULL, 'role', true, 'role', 0, 0),
    ( 1, 'member.removed', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'member.removed', NULL, 'user_id', true, 'uuid', 0, 0),
    ( 1, 'user.updated', NULL, 'id', true, 'uuid', 0, 0),
    ( 2, 'user.updated', NULL, 'email', false, 'email', 0, 0),
    ( 3, 'user.updated', NULL, 'name', false, 'name', 0, 256),
    ( 1, 'ownership.transferred', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'ownership.transferred', NULL, 'user_id', true, 'uuid', 0, 0),
    ( 1, 'usage.recorded', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'usage.recorded', NULL, 'quantity', true, 'integer', 1, 9007199254740991),
    ( 3, 'usage.recorded', NULL, 'recorded_at', false, 'time', 0, 0),
    ( 1, 'cost.recorded', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'cost.recorded', NULL, 'source', true, 'text', 1, 63),
    ( 3, 'cost.recorded', NULL, 'context', false, 'text', 1, 63),
    ( 4, 'cost.recorded', NULL, 'vendor', false, 'text', 1, 200),
    ( 5, 'cost.recorded', NULL, 'model', false, 'text', 1, 200),
    ( 6, 'cost.recorded', NULL, 'input_tokens', false, 'integer', 0, 9223372036854775807),
    ( 7, 'cost.recorded', NULL, 'output_tokens', false, 'integer', 0, 9223372036854775807),
    ( 8, 'cost.recorded', NULL, 'cost_usd', false, 'cost', 0, 10000000),
    ( 9, 'cost.recorded', NULL, 'usage_id', false, 'text', 1, 512)
$$;

-- Every character that Unicode calls white space.
CREATE FUNCTION polar_jobs.blanks() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT E'\u0009\u000A\u000B\u000C\u000D\u0020\u0085\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005'
        || E'\u2006\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000'
$$;

-- Which rule a text breaks; null if none.
CREATE FUNCTION polar_jobs.text_fault(value text, low bigint, high bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN translate(value, polar_jobs.blanks(), '') = '' AND low > 0 THEN 'must not be empty'
                WHEN char_length(value) > high THEN 'must have at most ' || high || ' characters' END
$$;

CREATE FUNCTION polar_jobs.is_email(value text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT value ~ '^[^@]+@[^@]+$' AND octet_length(value) <= 254
       AND translate(value, polar_jobs.blanks(), '') = value AND value !~ '[\u0001-\u001F\u007F-\u009F]'
$$;

CREATE FUNCTION polar_jobs.is_time(value text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$'
       AND value::timestamptz IS NOT NULL;
EXCEPTION WHEN data_exception THEN
    RETURN false;
END $$;

-- Which rule a value breaks, in words that do not repeat the value; null if none.
CREATE FUNCTION polar_jobs.value_fault(value jsonb, rule text, low bigint, high bigint) RETURNS text
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    given text := CASE WHEN jsonb_typeof(value) = 'string' THEN value #>> '{}' END;
BEGIN
    CASE rule
    WHEN 'object' THEN
        RETURN CASE WHEN jsonb_typeof(value) <> 'object' THEN 'must be an object' END;
    WHEN 'text' THEN
        RETURN CASE WHEN given IS NULL THEN 'must be text' ELSE polar_jobs.text_fault(given, low, high) END;
    WHEN 'name' THEN
        -- Polar strips names; what is left is stored, and counts.
        RETURN CASE WHEN given IS NULL THEN 'must be text'
                    ELSE polar_jobs.text_fault(btrim(given, polar_jobs.blanks()), low, high) END;
    WHEN 'uuid' THEN
        RETURN CASE WHEN given ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN NULL ELSE 'must be a UUID' END;
    WHEN 'email' THEN
        RETURN CASE WHEN polar_jobs.is_email(given) THEN NULL ELSE 'must be an email address of at most 254 bytes' END;
    WHEN 'role' THEN
        RETURN CASE WHEN given IN ('owner', 'admin', 'finance', 'member') THEN NULL
                    ELSE 'must be one of owner, admin, finance, member' END;
    WHEN 'time' THEN
        RETURN CASE WHEN polar_jobs.is_time(given) THEN NULL ELSE 'must be an RFC 3339 time' END;
    WHEN 'integer' THEN
        RETURN CASE WHEN jsonb_typeof(value) = 'number' AND value::text ~ '^-?[0-9]+$' AND value::numeric BETWEEN low AND high THEN NULL
                    WHEN high = 9223372036854775807 THEN 'must be an integer of at least ' || low
                    ELSE 'must be an integer from ' || low || ' to ' || high END;
    WHEN 'cost' THEN
        RETURN CASE WHEN given IS NULL THEN 'must be decimal text, such as "0.0123"'
                    WHEN octet_length(given) > 64 THEN 'must be at most 10000000 US dollars, written in at most 64 characters'
                    WHEN given !~ '^[0-9]+(\.[0-9]+)?$' THEN 'must be a plain decimal such as "0.0123": digits, no sign, no exponent'
                    WHEN round(given::numeric, 8) >= high AND given::numeric <> high
                        THEN 'must be at most 10000000 US dollars, written in at most 64 characters' END;
    END CASE;
END $$;

-- How many characters must be put in, taken out or replaced to make one text of the other.
CREATE FUNCTION polar_jobs.edit_distance(one text, other text) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    distances integer[] := ARRAY(SELECT generate_series(0, char_length(other)));
    diagonal integer;
    above integer;
BEGIN
    FOR i IN 1..char_length(one) LOOP
        diagonal := distances[1];
        distances[1] := i;
        FOR j IN 1..char_length(other) LOOP
            above := distances[j + 1];
            distances[j + 1] := least(above + 1, distances[j] + 1,
                                      diagonal + (substr(one, i, 1) <> substr(other, j, 1))::integer);
            diagonal := above;
        END LOOP;
    END LOOP;
    RETURN distances[char_length(other) + 1];
END $$;

-- What is said about a field that is none of `known`: the one of which at most half was mistyped, or all.
CREATE FUNCTION polar_jobs.unknown_field(name text, known text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'is unknown: ' || coalesce('did you mean ' || (
        SELECT near.field FROM (
            SELECT k.field, k.place, CASE WHEN char_length(name) <= 64 THEN polar_jobs.edit_distance(name, k.field) END AS distance
              FROM unnest(known) WITH ORDINALITY k (field, place)) near
         WHERE near.distance <= char_length(near.field) / 2
         ORDER BY near.distance, near.place LIMIT 1) || '?', 'known are ' || array_to_string(known, ', '))
$$;

-- The fields of a change's data, and of the objects in it, that its type does not have: the first twenty by their pointers.
CREATE FUNCTION polar_jobs.unknown_fields(type text, data jsonb) RETURNS SETOF text
    LANGUAGE sql STABLE AS $$
    SELECT unknown.pointer || ' ' || polar_jobs.unknown_field(unknown.name, unknown.known)
      FROM (SELECT '/data' || coalesce('/' || known.parent, '') || '/' || replace(replace(given.name, '~', '~0'), '/', '~1') AS pointer,
                   given.name, known.fields AS known
              FROM (SELECT f.parent, array_agg(f.field ORDER BY f.place) AS fields
                      FROM polar_jobs.change_fields() f WHERE f.change = type GROUP BY f.parent) known,
                   LATERAL (SELECT CASE WHEN known.parent IS NULL THEN data ELSE data -> known.parent END AS object) around,
                   LATERAL jsonb_object_keys(CASE WHEN jsonb_typeof(around.object) = 'object' THEN around.object ELSE '{}' END) given (name)
             WHERE given.name <> ALL (known.fields)) unknown
     ORDER BY unknown.pointer COLLATE "C" LIMIT 20
$$;

-- Every fault of a change, in the order of the fields; unknown ones come last.
CREATE FUNCTION polar_jobs.change_faults(type text, data jsonb, id text) RETURNS SETOF text
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY SELECT '/id ' || fault FROM polar_jobs.text_fault(id, 1, 512) fault WHERE fault IS NOT NULL;
    IF type IS NULL THEN
        RETURN NEXT '/type is missing';
    ELSIF NOT EXISTS (SELECT 1 FROM polar_jobs.change_fields() f WHERE f.change = type) THEN
        RETURN NEXT '/type must be one of organization.created, organization.updated, organization.deleted, '
            'member.added, member.updated, member.removed, user.updated, ownership.transferred, '
            'usage.recorded, cost.recorded';
    END IF;
    IF coalesce(jsonb_typeof(data), 'null') <> 'object' THEN
        RETURN NEXT '/data ' || CASE WHEN coalesce(jsonb_typeof(data), 'null') = 'null' THEN 'is missing'
                                     ELSE 'must be an object' END;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT '/data' || coalesce('/' || given.parent, '') || '/' || given.field || ' ' || given.fault
      FROM (SELECT f.place, f.parent, f.field,
                   CASE WHEN coalesce(jsonb_typeof(around.object -> f.field), 'null') <> 'null'
                        THEN polar_jobs.value_fault(around.object -> f.field, f.rule, f.low, f.high)
                        WHEN f.required THEN 'is missing' END AS fault
              FROM polar_jobs.change_fields() f,
                   LATERAL (SELECT CASE WHEN f.parent IS NULL THEN data ELSE data -> f.parent END AS object) around
             WHERE f.change = type AND jsonb_typeof(around.object) = 'object') given
     WHERE given.fault IS NOT NULL
     ORDER BY given.place;
    RETURN QUERY SELECT polar_jobs.unknown_fields(type, data);
END $$;

-- The same as POST /changes, inside the caller's transaction. Returns the id of the row it wrote,
-- null for a duplicate; raises with every fault, each named by its field.
CREATE FUNCTION polar_jobs.record_change(type text, data jsonb, id text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, polar_jobs, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    faults text := (SELECT string_agg(fault, '; ') FROM polar_jobs.change_faults(type, data, id) fault);
    key text;
    event bigint;
    job polar_jobs.live_jobs;
BEGIN
    IF faults IS NOT NULL THEN
        RAISE EXCEPTION 'record_change: %', faults USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF type = 'usage.recorded' THEN
        RETURN polar_jobs.record_usage((data ->> 'organization_id')::uuid, (data ->> 'quantity')::bigint,
                                       (data ->> 'recorded_at')::timestamptz, id);
    ELSIF type = 'cost.recorded' THEN
        RETURN polar_jobs.record_cost(
            (data ->> 'organization_id')::uuid, data ->> 'source', data ->> 'context', data ->> 'vendor',
            data ->> 'model', (data ->> 'input_tokens')::bigint, (data ->> 'output_tokens')::bigint,
            (data ->> 'cost_usd')::numeric, data ->> 'usage_id', NULL, id);
    END IF;
    key := CASE WHEN type = 'user.updated' THEN 'user/' || lower(data ->> 'id')
                ELSE 'organization/' || lower(coalesce(data ->> 'organization_id', data ->> 'id')) END;
    -- The lock before the ids: within a key their order is the order of commits.
    PERFORM polar_jobs.lock_keys(ARRAY['ordering/' || key]);
    event := nextval('polar_jobs.stored_events_id_seq');
    IF id IS NOT NULL THEN
        INSERT INTO polar_jobs.event_ids (external_id, source, event_id) VALUES (id, 'app', event) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO polar_jobs.stored_events (id, source, external_id, type, change)
    OVERRIDING SYSTEM VALUE VALUES (event, 'app', id, type, data);
    SELECT (j.job).* INTO job
      FROM polar_jobs.job_rows(
            ARRAY['apply_change'], ARRAY[jsonb_build_object('event', event)], ARRAY[NULL::text],
            ARRAY[NULL::timestamptz], ARRAY[NULL::smallint], ARRAY[NULL::text], ARRAY[key],
            ARRAY[NULL::integer], ARRAY[event]) j;
    PERFORM polar_jobs.store_pending(ARRAY[job], true);
    PERFORM polar_jobs.wake_at_commit(job.queue);
    RETURN event;
END $$;
