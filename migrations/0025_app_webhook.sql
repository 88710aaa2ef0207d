-- The application is told what changed: a job that posts to APP_WEBHOOK_URL, written in the transaction of the change.
-- Triggers write it, so that no place that changes a row can forget to.
--
-- A job names what changed and whose it is, never the new values: these are read when it runs, after the commit of the
-- change. Jobs of one organization run one at a time, so whatever is told later is as new or newer, and the last one
-- tells what holds. While the application is down, one job per organization and kind of news waits.

-- A queue of its own: an application that does not answer holds these slots, and no others.
INSERT INTO polar_jobs.queues (name, slots) VALUES ('app', 10);

-- Whether anybody is to be told: the settings of the worker that started last.
CREATE TABLE polar_jobs.app_webhook (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    is_set boolean NOT NULL DEFAULT false,
    -- Whether anybody was ever told.
    was_set boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO polar_jobs.app_webhook DEFAULT VALUES;

-- Numbers changes. A job that waits takes over the number of the change that was merged into it, and so its message gets
-- another id: who has seen the earlier message must not take this one for a repetition.
CREATE SEQUENCE polar_jobs.app_notices;

CREATE FUNCTION polar_jobs.notify_app(notice text, organizations uuid[], priority integer) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    count CONSTANT integer := cardinality(organizations);
    keys CONSTANT text[] := ARRAY(SELECT 'call_app/' || o.id
                                    FROM unnest(organizations) WITH ORDINALITY o (id, place) ORDER BY o.place);
BEGIN
    IF count = 0 OR NOT (SELECT w.is_set FROM polar_jobs.app_webhook w) THEN
        RETURN;
    END IF;
    -- What is urgent does not wait behind what is not: at one organization's key, the first decides.
    UPDATE polar_jobs.live_jobs j SET priority = notify_app.priority
     WHERE j.id = ANY (ARRAY(
           SELECT head.id FROM polar_jobs.live_jobs head
            WHERE head.ordering_key = ANY (keys) AND NOT head.blocked AND head.worker IS NULL
              AND head.priority > notify_app.priority FOR UPDATE SKIP LOCKED));
    PERFORM polar_jobs.insert_jobs(
        array_fill('call_app'::text, ARRAY[count]),
        ARRAY(SELECT json_build_object('notice', notice, 'organization_id', o.id, 'change', nextval('polar_jobs.app_notices'))
                FROM unnest(organizations) WITH ORDINALITY o (id, place) ORDER BY o.place),
        array_fill('app'::text, ARRAY[count]), NULL,
        array_fill(notify_app.priority::smallint, ARRAY[count]),
        ARRAY(SELECT format('call_app/%s/%s', notice, o.id)
                FROM unnest(organizations) WITH ORDINALITY o (id, place) ORDER BY o.place),
        keys, NULL, NULL);
    PERFORM polar_jobs.wake_at_commit('app');
END $$;

-- What an organization holds, and pays. One that is deleted, or starts anew, is the application's own doing.
CREATE FUNCTION polar_jobs.notify_app_of_organization() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.support_tier, OLD.preview_access, OLD.sso_enabled)
       IS DISTINCT FROM (NEW.support_tier, NEW.preview_access, NEW.sso_enabled) THEN
        PERFORM polar_jobs.notify_app('entitlements.changed', ARRAY[NEW.id], 0);
    END IF;
    IF (coalesce(OLD.granted_fee_basis_points, OLD.own_fee_basis_points),
        coalesce(OLD.granted_fee_fixed, OLD.own_fee_fixed),
        coalesce(OLD.granted_subscription_fee_basis_points, OLD.own_subscription_fee_basis_points))
       IS DISTINCT FROM
       (coalesce(NEW.granted_fee_basis_points, NEW.own_fee_basis_points),
        coalesce(NEW.granted_fee_fixed, NEW.own_fee_fixed),
        coalesce(NEW.granted_subscription_fee_basis_points, NEW.own_subscription_fee_basis_points)) THEN
        PERFORM polar_jobs.notify_app('fees.changed', ARRAY[NEW.id], 0);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER notify_app AFTER UPDATE ON polar_jobs.organizations FOR EACH ROW
    WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NULL AND
          (OLD.support_tier, OLD.preview_access, OLD.sso_enabled,
           OLD.granted_fee_basis_points, OLD.granted_fee_fixed, OLD.granted_subscription_fee_basis_points,
           OLD.own_fee_basis_points, OLD.own_fee_fixed, OLD.own_subscription_fee_basis_points)
          IS DISTINCT FROM
          (NEW.support_tier, NEW.preview_access, NEW.sso_enabled,
           NEW.granted_fee_basis_points, NEW.granted_fee_fixed, NEW.granted_subscription_fee_basis_points,
           NEW.own_fee_basis_points, NEW.own_fee_fixed, NEW.own_subscription_fee_basis_points))
    EXECUTE FUNCTION polar_jobs.notify_app_of_organization();

-- The plan and its status, as the view `entitlements` shows them.
CREATE FUNCTION polar_jobs.notify_app_of_plan() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    in_force CONSTANT text[] := ARRAY['trialing', 'active', 'past_due', 'paused'];
    before CONSTANT text[] := CASE WHEN OLD.status = ANY (in_force) THEN ARRAY[OLD.product_name, OLD.status] END;
    after CONSTANT text[] := CASE WHEN NEW.status = ANY (in_force) THEN ARRAY[NEW.product_name, NEW.status] END;
    organization CONSTANT uuid := coalesce(NEW.organization_id, OLD.organization_id);
BEGIN
    IF before IS DISTINCT FROM after
       AND EXISTS (SELECT FROM polar_jobs.organizations o WHERE o.id = organization AND o.deleted_at IS NULL) THEN
        PERFORM polar_jobs.notify_app('entitlements.changed', ARRAY[organization], 0);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER notify_app AFTER INSERT OR UPDATE OR DELETE ON polar_jobs.subscriptions FOR EACH ROW
    EXECUTE FUNCTION polar_jobs.notify_app_of_plan();

-- Of every living organization. Nobody waits for this, so it comes after everything else.
CREATE FUNCTION polar_jobs.notify_app_of_all(notice text) RETURNS void LANGUAGE sql AS $$
    SELECT polar_jobs.notify_app(notice,
        ARRAY(SELECT o.id FROM polar_jobs.organizations o WHERE o.deleted_at IS NULL ORDER BY o.id), 30)
$$;

-- The platform's fees concern everybody without others. Those who have others are told as well, for nothing: a grant that
-- is withdrawn at this moment cannot be seen from here.
CREATE FUNCTION polar_jobs.notify_app_of_platform() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM polar_jobs.notify_app_of_all('fees.changed');
    RETURN NULL;
END $$;
CREATE TRIGGER notify_app AFTER UPDATE ON polar_jobs.platform_fees FOR EACH ROW
    WHEN ((OLD.fee_basis_points, OLD.fee_fixed, OLD.subscription_fee_basis_points)
          IS DISTINCT FROM (NEW.fee_basis_points, NEW.fee_fixed, NEW.subscription_fee_basis_points))
    EXECUTE FUNCTION polar_jobs.notify_app_of_platform();
