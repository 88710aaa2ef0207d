-- What the organizations API keeps between requests: who changes a subscription now, what was answered
-- to a repeated request, whose cancellation was taken back for a change that is under way or made again
-- after it, and who was invited to the startup program. No connection is held while Polar is asked, so
-- everything that must outlive a statement is a row.

-- One change of an organization's subscription at a time, whichever process makes it. The row goes with
-- the change; that of a process that died is taken over once it has expired.
CREATE TABLE polar_jobs.subscription_change_leases (
    organization_id uuid PRIMARY KEY,
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Answers to requests with an `Idempotency-Key`. Without `status` the first request is under way until
-- `busy_until`, or its process died or could not know the answer: then the next one with the same key
-- goes on.
CREATE TABLE polar_jobs.idempotent_requests (
    organization_id uuid NOT NULL,
    -- A user's id, or `application`.
    caller text NOT NULL,
    -- Method and path below the organization.
    route text NOT NULL,
    key text NOT NULL,
    -- SHA-256 of the body.
    fingerprint bytea NOT NULL,
    holder uuid NOT NULL,
    attempt integer NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    busy_until timestamptz NOT NULL,
    status smallint,
    answer text,
    PRIMARY KEY (organization_id, caller, route, key)
);
CREATE INDEX idempotent_requests_age ON polar_jobs.idempotent_requests (started_at);

-- Subscriptions whose cancellation was taken back because Polar changes the plan of no cancelled one. The
-- row goes once the change is made; `restore_cancellation` finds what was left behind, and `resume_syncs` starts it
-- again for a row that is older than ten minutes.
CREATE TABLE polar_jobs.resumed_subscriptions (
    organization_id uuid PRIMARY KEY,
    subscription_id uuid NOT NULL,
    -- The plan that was wanted.
    product_id uuid NOT NULL,
    -- The discount that was wanted with it; null where the change was about the plan alone.
    discount_id uuid,
    -- The cancellation that people know, as Polar dated it; null where it did not, or where a person cancels anew.
    canceled_at timestamptz,
    resumed_at timestamptz NOT NULL DEFAULT now()
);

-- Cancellations that were made again after a change that failed. Polar dates and announces them like new
-- ones; for people they are the first, about which they had mail. Rows stay as long as those of `mails`: a
-- delivery may come, or be replayed, at any time.
CREATE TABLE polar_jobs.restored_cancellations (
    subscription_id uuid NOT NULL,
    -- As Polar dates it.
    canceled_at timestamptz NOT NULL,
    -- The one that it restores.
    first_canceled_at timestamptz NOT NULL,
    PRIMARY KEY (subscription_id, canceled_at)
);

-- Who was invited to the startup program by hand, or is invited no longer. What an invitation is worth stands
-- at Polar; here stands what is wanted, so that it is carried out once and by one writer per customer.
CREATE TABLE polar_jobs.startup_programs (
    organization_id uuid PRIMARY KEY REFERENCES polar_jobs.organizations,
    -- Whether the organization is to be invited.
    invited boolean NOT NULL,
    -- The discount that the invitation is, from the moment that Polar has made it.
    discount_id uuid,
    -- Grows with every order; `done_version` is the last one that was carried out, or refused.
    version bigint NOT NULL DEFAULT 1,
    done_version bigint NOT NULL DEFAULT 0,
    -- Why it was refused.
    refusal text
);
COMMENT ON TABLE polar_jobs.startup_programs IS 'Invitations to the startup program, as operators want them.';
