-- What is old goes: history and events by the day (`drop_partitions`), what belongs to them in batches.

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

-- Deletes ticks before a time, but never a schedule's newest, at most `batch` of them; the number deleted.
CREATE FUNCTION polar_jobs.prune_ticks(before timestamptz, batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    deleted bigint;
BEGIN
    DELETE FROM polar_jobs.schedule_ticks WHERE (schedule, tick) IN (
        SELECT t.schedule, t.tick FROM polar_jobs.schedule_ticks t
         WHERE t.tick < before
           AND EXISTS (SELECT 1 FROM polar_jobs.schedule_ticks newer
                        WHERE newer.schedule = t.schedule AND newer.tick > t.tick)
         LIMIT batch);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;
