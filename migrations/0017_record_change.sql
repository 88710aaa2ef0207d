-- A change of the application, in the application's own transaction.

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
    INSERT INTO polar_jobs.stored_events (id, received_at, source, external_id, type, change)
    OVERRIDING SYSTEM VALUE VALUES (event, polar_jobs.received_at(type), 'app', id, type, data);
    SELECT (j.job).* INTO job
      FROM polar_jobs.job_rows(
            ARRAY['apply_change'], ARRAY[json_build_object('event', event)], ARRAY[NULL::text],
            ARRAY[NULL::timestamptz], ARRAY[NULL::smallint], ARRAY[NULL::text], ARRAY[key],
            ARRAY[NULL::integer], ARRAY[event]) j;
    PERFORM polar_jobs.store_pending(ARRAY[job], true);
    PERFORM polar_jobs.wake_at_commit(job.queue);
    RETURN event;
END $$;
