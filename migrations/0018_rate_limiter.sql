-- What the whole fleet knows about Polar: the shared budget of calls, the time until which Polar asked
-- everybody to wait, and whether it refuses our token. One row, compared only with this server's clock.
CREATE TABLE polar_jobs.rate_limiter (
    name text PRIMARY KEY,
    -- Calls that may still be made at `counted_at`; refilled by time.
    calls_left double precision NOT NULL,
    counted_at timestamptz NOT NULL,
    wait_until timestamptz,
    unauthorized_since timestamptz,
    next_probe_at timestamptz,
    -- When a process for which Polar is down tries again; for `doctor`. Each process has a breaker of
    -- its own, and one that dies closes nothing: a moment in the past means nothing.
    breaker_probe_at timestamptz,
    -- The program decides and stores what it decided: a write holds only if the row is still the one
    -- that was read. A version says so without comparing floating-point numbers.
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
-- Counted long ago, so the first call of a new installation finds a full budget.
INSERT INTO polar_jobs.rate_limiter (name, calls_left, counted_at) VALUES ('polar', 0, '2000-01-01T00:00:00Z');
