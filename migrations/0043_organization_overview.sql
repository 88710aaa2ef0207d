-- Organizations for people: where each stands, and what happened to it.

-- Whom a job is about, as its payload or its keys say; null where they name nobody.
CREATE FUNCTION polar_jobs.job_organization(payload jsonb, ordering_key text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(payload ->> 'organization_id', payload ->> 'external_customer_id',
                    substring(ordering_key FROM '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'))
$$;

CREATE VIEW polar_jobs.organization_overview AS
WITH unfinished AS (
    SELECT polar_jobs.job_organization(j.payload, j.ordering_key) AS organization, count(*) AS waiting,
           count(*) FILTER (WHERE j.errors <> '[]') AS failing
      FROM polar_jobs.jobs j WHERE j.state IN ('available', 'running') GROUP BY 1
)
SELECT o.id, o.name, o.slug, o.status, o.deleted_at, e.plan, e.subscription_status, e.support_tier,
       o.polar_customer_id AS customer_id, step.in_step,
       CASE WHEN step.in_step THEN greatest(o.synced_at, m.synced_at, d.repaired_at) END AS in_step_since,
       coalesce(u.waiting, 0) AS waiting_jobs, coalesce(u.failing, 0) AS failing_jobs, d.open AS differences,
       o.created_at
  FROM polar_jobs.organizations o
  LEFT JOIN polar_jobs.entitlements e ON e.organization_id = o.id
  LEFT JOIN unfinished u ON u.organization = o.id::text
 CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE m.synced_event IS DISTINCT FROM polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event)
                              AND (m.removed_at IS NULL OR m.synced_event IS NOT NULL)) AS unsynced,
           max(m.synced_at) AS synced_at
      FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id) WHERE m.organization_id = o.id) m
 CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.repaired_at IS NULL) AS open, max(d.repaired_at) AS repaired_at
      FROM polar_jobs.differences d WHERE d.organization_id = o.id) d
 CROSS JOIN LATERAL (
    SELECT o.synced_event IS NOT DISTINCT FROM o.event_id AND o.erasure_event IS NULL
           AND (o.deleted_at IS NOT NULL
                OR NOT o.stale AND m.unsynced = 0 AND d.open = 0
                   AND NOT EXISTS (SELECT FROM polar_jobs.out_of_step s WHERE s.organization_id = o.id)) AS in_step) step;
COMMENT ON VIEW polar_jobs.organization_overview IS
    'Each organization with its plan, whether Polar has it as wanted and since when, its unfinished jobs and open differences.';

-- What happened to an organization, newest first, at most `most` rows.
CREATE FUNCTION polar_jobs.organization_timeline(organization uuid, most bigint)
    RETURNS TABLE (at timestamptz, source text, what text, outcome text, reference text) LANGUAGE sql STABLE AS $$
    WITH about AS MATERIALIZED (
        SELECT j.* FROM polar_jobs.jobs j WHERE polar_jobs.job_organization(j.payload, j.ordering_key) = organization::text
            OR j.payload ->> 'customer_id' IN (SELECT c.polar_customer_id::text FROM polar_jobs.polar_customers c
                                                WHERE c.organization_id = organization_timeline.organization)
    ), events AS (
        SELECT e.id FROM polar_jobs.stored_events e
         WHERE strpos(lower(e.change::text), organization::text) > 0
            OR position(convert_to(organization::text, 'UTF8') IN e.body) > 0
        UNION
        SELECT unnest(a.events) FROM about a
    )
    SELECT * FROM (
        SELECT e.received_at AS at, e.source, coalesce(e.type, '(unreadable)') AS what, e.outcome, 'event/' || e.id AS reference
          FROM polar_jobs.external_events e WHERE e.id IN (SELECT v.id FROM events v)
        UNION ALL
        SELECT coalesce(a.finished_at, a.started_at, a.created_at), 'job', a.kind,
               CASE WHEN a.state = 'completed' THEN a.outcome ELSE a.state END, 'job/' || a.id
          FROM about a
        UNION ALL
        SELECT coalesce(m.sent_at, m.created_at), 'mail', m.template, m.state, 'mail/' || m.key
          FROM polar_jobs.mails m WHERE m.organization_id = organization_timeline.organization
        UNION ALL
        SELECT o.at, 'operator', o.action || ' by ' || o.actor, 'applied', o.target
          FROM polar_jobs.operator_actions o
         WHERE o.organization_id = organization_timeline.organization
        UNION ALL
        SELECT d.first_seen, 'reconcile', d.subject || ': ' || d.cause, 'found', 'difference/' || d.id
          FROM polar_jobs.differences d WHERE d.organization_id = organization_timeline.organization
        UNION ALL
        SELECT d.repaired_at, 'reconcile', d.subject || ': ' || d.cause, 'repaired', 'difference/' || d.id
          FROM polar_jobs.differences d
         WHERE d.organization_id = organization_timeline.organization AND d.repaired_at IS NOT NULL
    ) happened
    ORDER BY at DESC, reference DESC LIMIT most
$$;
