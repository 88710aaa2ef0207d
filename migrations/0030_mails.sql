-- Mail: one row per mail, recipient and occasion. The key is unique, so an occasion that is told twice (a
-- repeated delivery, a replay, a job that ran again) gives one mail. `jobs/mirror/mails.rs` is the only Rust
-- that reads and writes these tables.

CREATE TABLE polar_jobs.mails (
    -- Template, order or subscription, occasion, and a digest of the recipient: keys stand in payloads and
    -- logs, which must not hold addresses.
    key text PRIMARY KEY,
    template text NOT NULL,
    -- Null once the people of the organization were erased.
    recipient text,
    organization_id uuid,
    order_id uuid,
    subscription_id uuid,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'skipped', 'failed')),
    -- How often the mail was handed to a mail server. More than one with state `sent`: the mail was put off, an
    -- answer was lost, or a worker died before it was written down; in the last two cases the recipient may have
    -- the same message twice.
    attempts integer NOT NULL DEFAULT 0,
    -- Made from the key at the first attempt and kept, so that a repeated message can be recognised.
    message_id text,
    -- What the text says: names, amounts and dates, as they were when the mail was asked for.
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    error text
) WITH (fillfactor = 80);
CREATE INDEX mails_order ON polar_jobs.mails (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX mails_organization ON polar_jobs.mails (organization_id) WHERE organization_id IS NOT NULL;
COMMENT ON TABLE polar_jobs.mails IS 'Every mail: to whom, about what, and what became of it.';

-- Invoices that mails of an order carry: fetched once for all its recipients, because the link to an invoice
-- lives for minutes and a mail server may be away for longer.
CREATE TABLE polar_jobs.mail_invoices (
    order_id uuid PRIMARY KEY,
    number text NOT NULL,
    content bytea NOT NULL,
    fetched_at timestamptz NOT NULL DEFAULT now()
);
-- A PDF is compressed already.
ALTER TABLE polar_jobs.mail_invoices ALTER COLUMN content SET STORAGE EXTERNAL;

-- A mail server that accepts connections and then hangs holds a slot for as long as its timeouts; what is left
-- of the worker's slots stays with billing.
UPDATE polar_jobs.queues SET slots = 8 WHERE name = 'mail' AND slots IS NULL;
