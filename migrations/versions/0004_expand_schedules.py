"""When workflows are to be started by the clock, and the one way in which the relay may start them.

Revision ID: 0004
Revises: 0003

The relay may append nothing to the log but what `fire_schedule` makes of a schedule that is due: a delivery of the
source `schedule` for each time, and its work item. The function moves the schedule on in the same statement, from the
time that its caller saw, so that of several relays one fires.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = (
    """
    CREATE TABLE schedule (
      workspace_id int NOT NULL REFERENCES workspace, workflow text NOT NULL, expression text NOT NULL,
      tz text NOT NULL, catch_up text NOT NULL CHECK (catch_up IN ('skip', 'last', 'all')),
      next_at timestamptz NOT NULL,
      PRIMARY KEY (workspace_id, workflow, expression, tz)
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX schedule_next ON schedule (next_at)",
)

# The bodies are made here, so that the relay's role cannot say anything in the log: it gives the times, which must be
# due, and how many were left out. Kind 0 is a delivery to be routed, in the queue for these (events.types).
FIRE = r"""
CREATE FUNCTION fire_schedule(p_workspace int, p_workflow text, p_expression text, p_tz text, p_due timestamptz,
  p_next timestamptz, p_ids uuid[], p_times text[], p_missed int) RETURNS boolean
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
    INSERT INTO public.work_item (id, stream_id, kind, queue, only_workflow)
    SELECT stream_id, stream_id, 0, 'webhook', p_workflow FROM appended)
  SELECT count(*) > 0 INTO won FROM moved;
  RETURN won;
END $$
"""

GRANTS = (
    "GRANT SELECT ON schedule TO headrace_relay",
    "REVOKE EXECUTE ON FUNCTION fire_schedule FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION fire_schedule TO headrace_relay",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON schedule TO headrace_operator",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE headrace_owner")
    for statement in (*TABLES, FIRE, *GRANTS):
        op.execute(statement)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("DROP FUNCTION fire_schedule")
    op.execute("DROP TABLE schedule")
