-- The gate decides in the program and stores what it decided: a write holds only if the row is
-- still the one that was read. A version says so without comparing floating-point numbers.
ALTER TABLE polar_jobs.gate ADD COLUMN version bigint NOT NULL DEFAULT 0;

-- Counted long ago, so the first call of a new installation finds a full budget.
INSERT INTO polar_jobs.gate (name, calls_left, counted_at) VALUES ('polar', 0, '2000-01-01T00:00:00Z');
