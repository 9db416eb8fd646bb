"""API keys, and the rights of the console, which starts runs for whoever has one.

Revision ID: 0007
Revises: 0006

The console speaks to the database in the operator's role. A key's text is nowhere: `hash` is SHA-256 of 256 random
bits, which nobody guesses, so that a slow hash would add nothing; `prefix` finds the row.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    """
    CREATE TABLE api_key (
      id uuid PRIMARY KEY, workspace_id int NOT NULL REFERENCES workspace, name text NOT NULL,
      role text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
      prefix text NOT NULL UNIQUE, hash bytea NOT NULL CHECK (length(hash) = 32),
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(), expires_at timestamptz, last_used_at timestamptz,
      revoked_at timestamptz)
    """,
    # A name is free again when its key was revoked.
    "CREATE UNIQUE INDEX api_key_name ON api_key (workspace_id, name) WHERE revoked_at IS NULL",
    "GRANT SELECT, INSERT, UPDATE (last_used_at, revoked_at) ON api_key TO headrace_operator",
    "GRANT INSERT ON delivery_key TO headrace_operator",
    "CREATE INDEX run_workspace ON run (workspace_id, id) WHERE workspace_id <> 1",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE headrace_owner")
    op.execute("SET LOCAL lock_timeout = '10s'")
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute("SET LOCAL lock_timeout = 0")
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("DROP INDEX run_workspace")
    op.execute("DROP TABLE api_key")
