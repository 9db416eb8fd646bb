"""Refused requests, kept apart from the log for a short time; operators may admit them.

Revision ID: 0002
Revises: 0001

Not append-only on purpose: what was refused is not history, and an attacker writes it. `rejected_hour` is the quota:
one row per source and hour, counted in the statement that keeps a request, by all ingest processes together.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = (
    """
    CREATE TABLE rejected (
      id uuid PRIMARY KEY, workspace_id int NOT NULL, source_id int NOT NULL,
      recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(), reason text NOT NULL,
      metadata jsonb NOT NULL, headers bytea NOT NULL, sealed bytea, codec smallint NOT NULL, body bytea NOT NULL,
      admitted_as uuid)
    """,
    "CREATE INDEX rejected_by_source ON rejected (source_id, id)",
    "CREATE INDEX rejected_recorded ON rejected (recorded_at)",
    """
    CREATE TABLE rejected_hour (
      source_id int NOT NULL, hour timestamptz NOT NULL, kept int NOT NULL, bytes bigint NOT NULL,
      PRIMARY KEY (source_id, hour))
    """,
    # What was compressed before it came; a second try at every row would only cost.
    "ALTER TABLE rejected ALTER COLUMN body SET STORAGE EXTERNAL",
)

GRANTS = (
    # ingest: keeps, and cannot read what it kept.
    "GRANT INSERT ON rejected TO headrace_ingest",
    "GRANT SELECT, INSERT, UPDATE (kept, bytes) ON rejected_hour TO headrace_ingest",
    # relay: upkeep.
    "GRANT SELECT (id, recorded_at), DELETE ON rejected TO headrace_relay",
    "GRANT SELECT, DELETE ON rejected_hour TO headrace_relay",
    # operator: reads, admits (an append like ingest's), notes what was admitted as what.
    "GRANT SELECT, UPDATE (admitted_as) ON rejected TO headrace_operator",
    "GRANT SELECT ON rejected_hour TO headrace_operator",
    "GRANT INSERT ON delivery_key TO headrace_operator",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE headrace_owner")
    for statement in (*TABLES, *GRANTS):
        op.execute(statement)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("DROP TABLE rejected_hour, rejected")
