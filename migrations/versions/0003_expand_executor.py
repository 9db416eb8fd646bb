"""What runs say to each other and wait for: the inbox, arrivals and subscriptions; heads of runs know their parents.

Revision ID: 0003
Revises: 0002

None of it is history: the rows are gone once the run that they are for has noted what they came to, or has ended. What
a crash leaves behind the relay sweeps.

Nothing that exists changes its meaning, so that processes of the release before go on beside this schema. The changes
to `run` and `work_item` need each table for a moment; they give up rather than have every worker queue up behind them.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

# Rows live for seconds: vacuum early, as with the work list.
_SHORT_LIVED = """
    WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000,
          autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1)
"""

TABLES = (
    "ALTER TABLE work_item ADD COLUMN signal bigint NOT NULL DEFAULT 0",
    "ALTER TABLE run ADD COLUMN parent uuid, ADD COLUMN fork_of uuid",
    "CREATE INDEX run_parent ON run (parent) WHERE parent IS NOT NULL",
    # Drawn under the lock of a work item: in each stream the order of seq is the order of commits.
    "CREATE SEQUENCE inbox_seq CACHE 1",
    f"""
    CREATE TABLE inbox (
      stream_id uuid NOT NULL, seq bigint NOT NULL, type text NOT NULL, body bytea NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (stream_id, seq)
    ) {_SHORT_LIVED}
    """,
    # Every expression of any workflow ever applied: a run may still wait by it.
    """
    CREATE TABLE wait_expression (
      source text NOT NULL, expression bytea NOT NULL CHECK (length(expression) = 16), text text NOT NULL,
      PRIMARY KEY (source, expression))
    """,
    """
    CREATE TABLE arrival (
      source text NOT NULL, expression bytea NOT NULL, key bytea NOT NULL CHECK (length(key) = 16),
      delivery_id uuid NOT NULL, type text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),
      PRIMARY KEY (source, expression, key, delivery_id))
    """,
    "CREATE INDEX arrival_at ON arrival (at)",
    f"""
    CREATE TABLE subscription (
      run_id uuid NOT NULL, node text NOT NULL, source text NOT NULL, expression bytea NOT NULL,
      key bytea NOT NULL CHECK (length(key) = 16), until timestamptz, PRIMARY KEY (run_id, node)
    ) {_SHORT_LIVED}
    """,
    "CREATE INDEX subscription_key ON subscription (source, expression, key)",
)

GRANTS = (
    # worker: tells other runs, reads and clears the inboxes of those it holds, waits.
    "GRANT SELECT, INSERT, DELETE ON inbox TO headrace_worker",
    "GRANT USAGE ON SEQUENCE inbox_seq TO headrace_worker, headrace_operator",
    "GRANT SELECT ON wait_expression TO headrace_worker",
    "GRANT SELECT, INSERT ON arrival TO headrace_worker",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON subscription TO headrace_worker",
    # relay: sweeps, and cannot read what anybody says.
    "GRANT SELECT (stream_id, seq), DELETE ON inbox TO headrace_relay",
    "GRANT SELECT (at), DELETE ON arrival TO headrace_relay",
    "GRANT SELECT, DELETE ON subscription TO headrace_relay",
    # operator: signals runs, reopens ended ones (a lock on `run` asks for the right to change a column), starts
    # new ones, applies expressions.
    "GRANT SELECT, INSERT ON inbox TO headrace_operator",
    "GRANT UPDATE (signal, due_at) ON work_item TO headrace_operator",
    "GRANT INSERT, UPDATE (updated_at) ON run TO headrace_operator",
    "GRANT SELECT, INSERT ON wait_expression TO headrace_operator",
    "GRANT SELECT ON arrival, subscription TO headrace_operator",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE headrace_owner")
    op.execute("SET LOCAL lock_timeout = '10s'")
    for statement in (*TABLES, *GRANTS):
        op.execute(statement)
    op.execute("SET LOCAL lock_timeout = 0")
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("DROP TABLE inbox, wait_expression, arrival, subscription")
    op.execute("DROP SEQUENCE inbox_seq")
    op.execute("ALTER TABLE run DROP COLUMN parent, DROP COLUMN fork_of")
    op.execute("ALTER TABLE work_item DROP COLUMN signal")
