"""Workspaces: a tier and a limit for each, work items that say whose they are, and slots for the runs of limited ones.

Revision ID: 0006
Revises: 0005

A run of a limited workspace has a slot while somebody holds it: `slot AND owner IS NOT NULL`. So a slot is taken by the
claim, comes back in the very statement that lets the run go, whichever that is, and is nowhere else to be lost. `turn`
rises with every claim that takes one; it tells a claim whether its count of slots is out of date (`events.claims`).

The index of due items begins with the workspace and the kind, so that a claim finds out which workspaces have something
due by looking once for each, and finds the deliveries behind ten thousand runs that may not start yet.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    "ALTER TABLE workspace ADD COLUMN tier text NOT NULL DEFAULT 'unlimited'",
    "ALTER TABLE workspace ADD COLUMN concurrency int CHECK (concurrency > 0)",
    "ALTER TABLE workspace ADD COLUMN turn bigint NOT NULL DEFAULT 0",
    "ALTER TABLE workspace ADD COLUMN created_at timestamptz NOT NULL DEFAULT clock_timestamp()",
    "ALTER TABLE work_item ADD COLUMN workspace_id int NOT NULL DEFAULT 1",
    "ALTER TABLE work_item ADD COLUMN slot bool NOT NULL DEFAULT false",
    "DROP INDEX work_item_due",
    "CREATE INDEX work_item_due ON work_item (queue, workspace_id, kind, due_at) WHERE attempt < 2",
    "CREATE INDEX work_item_slot ON work_item (workspace_id) WHERE slot AND owner IS NOT NULL",
    # A version belongs to each workspace that applied it: two may have the same document.
    "ALTER TABLE workflow DROP CONSTRAINT workflow_hash_fkey",
    "ALTER TABLE workflow_version DROP CONSTRAINT workflow_version_pkey",
    "ALTER TABLE workflow_version ADD PRIMARY KEY (hash, workspace_id)",
    "ALTER TABLE workflow ADD FOREIGN KEY (hash, workspace_id) REFERENCES workflow_version (hash, workspace_id)",
    "GRANT SELECT (workspace_id) ON event TO headrace_ingest",
    "GRANT SELECT, UPDATE (turn) ON workspace TO headrace_worker",
    "GRANT SELECT (id, concurrency) ON workspace TO headrace_relay",
    "GRANT INSERT (id, slug, tier, concurrency), UPDATE (tier, concurrency) ON workspace TO headrace_operator",
)

# As in 0004, but for the work item's workspace.
FIRE = r"""
CREATE OR REPLACE FUNCTION fire_schedule(p_workspace int, p_workflow text, p_expression text, p_tz text,
  p_due timestamptz, p_next timestamptz, p_ids uuid[], p_times text[], p_missed int) RETURNS boolean
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  won boolean;
BEGIN
  IF p_due > clock_timestamp() OR p_next <= p_due OR p_missed < 0 OR cardinality(p_times) > 100
    OR cardinality(p_ids) <> cardinality(p_times)
    OR EXISTS (SELECT FROM unnest(p_times) AS t(at) WHERE CASE
      WHEN at ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$'
      THEN at::timestamptz BETWEEN date_trunc('second', p_due) AND clock_timestamp() ELSE false END IS NOT TRUE)
  THEN
    RAISE EXCEPTION 'schedule of %: expected at most 100 times that are due (RFC 3339), and a later next one',
      p_workflow USING ERRCODE = 'invalid_parameter_value';
  END IF;
  WITH moved AS (
    UPDATE public.schedule SET next_at = p_next
    WHERE workspace_id = p_workspace AND workflow = p_workflow AND expression = p_expression AND tz = p_tz
      AND next_at = p_due
    RETURNING *),
  appended AS (
    INSERT INTO public.event (stream_id, version, workspace_id, type, metadata, headers, body)
    SELECT t.id, 0, workspace_id, 'delivery.received',
      jsonb_build_object('source', 'schedule', 'event_type', workflow, 'content_type', 'application/json',
        'schedule', expression, 'tz', tz),
      '', convert_to(jsonb_strip_nulls(jsonb_build_object('scheduled_for', t.at, 'workflow', workflow, 'tz', tz,
        'missed', CASE t.n WHEN 1 THEN p_missed ELSE 0 END,
        'note', CASE WHEN t.n = 1 AND p_missed > 0 AND catch_up = 'all'
          THEN format('%s earlier times are left out: catch_up: all makes up for %s at most', p_missed,
            cardinality(p_times)) END))::text, 'UTF8')
    FROM moved, unnest(p_ids, p_times) WITH ORDINALITY AS t(id, at, n) ORDER BY t.n
    RETURNING stream_id),
  work AS (
    INSERT INTO public.work_item (id, stream_id, kind, queue, only_workflow, workspace_id)
    SELECT stream_id, stream_id, 0, 'webhook', p_workflow, p_workspace FROM appended)
  SELECT count(*) > 0 INTO won FROM moved;
  RETURN won;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL ROLE headrace_owner")
    op.execute("SET LOCAL lock_timeout = '10s'")
    for statement in (*STATEMENTS, FIRE):
        op.execute(statement)
    op.execute("SET LOCAL lock_timeout = 0")
    op.execute("RESET ROLE")


def downgrade() -> None:
    raise RuntimeError("workspaces are not taken down by a migration: their work would become that of the default one")
