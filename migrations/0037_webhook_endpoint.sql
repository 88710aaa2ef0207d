-- Whether Polar delivers to us, as it was last asked. What happens while it does not is never recorded there, so the time since the last
-- delivery is remembered until everybody was asked about.
CREATE TABLE polar_jobs.webhook_endpoint (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    checked_at timestamptz NOT NULL,
    enabled boolean NOT NULL,
    -- Types of events that we handle and Polar does not send.
    missing_events text[] NOT NULL,
    -- The last delivery before Polar was found not to deliver, or not everything; null while it does.
    gap_since timestamptz
);
COMMENT ON TABLE polar_jobs.webhook_endpoint IS 'Whether Polar delivers to us, as it was last asked.';

-- Failed events that Polar was asked to send again.
CREATE TABLE polar_jobs.redeliveries (
    event_id uuid PRIMARY KEY,
    asked_at timestamptz NOT NULL DEFAULT now()
);

REVOKE ALL ON polar_jobs.webhook_endpoint, polar_jobs.redeliveries FROM PUBLIC;
