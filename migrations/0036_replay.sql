-- Events are replayed by hand. What was applied stays applied, whatever comes of the repetition; what failed, or started nothing when it
-- came, counts as not handled again, so that its new end is seen.
CREATE FUNCTION polar_jobs.reopen_event(event bigint) RETURNS void LANGUAGE sql AS $$
    DELETE FROM polar_jobs.event_ends e WHERE e.event_id = event AND e.rank = 3;
    UPDATE polar_jobs.stored_events e SET outcome = NULL WHERE e.id = event AND e.outcome IN ('failed', 'ignored');
$$;
REVOKE EXECUTE ON FUNCTION polar_jobs.reopen_event(bigint) FROM PUBLIC;
