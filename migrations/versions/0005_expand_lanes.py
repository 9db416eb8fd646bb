"""Lanes: what waits to start a run of a workflow whose runs wait for each other.

Revision ID: 0005
Revises: 0004

A lane is a work item of its own kind, whose id is derived from workspace, workflow and key; it is there only while
something waits in it. `work_item.lane` tells which runs of a lane have not ended: their work items are there exactly as
long as they go on, so that nothing has to be counted. `run.lane` tells when its latest runs started.

Both columns are empty for all other runs, and the indexes hold none of these: nothing is paid where no lane is.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    "ALTER TABLE work_item ADD COLUMN lane uuid",
    "ALTER TABLE run ADD COLUMN lane uuid",
    "CREATE INDEX work_item_lane ON work_item (lane) WHERE lane IS NOT NULL",
    "CREATE INDEX run_lane ON run (lane, started_at) WHERE lane IS NOT NULL",
    # In the order of `item`, the id of the delivery or the replay: when it came, and not when somebody got to it. `seq`
    # is drawn under the lock of the lane's work item, whose signal it becomes.
    """
    CREATE TABLE start_request (
      lane_id uuid NOT NULL, seq bigint NOT NULL, workspace_id int NOT NULL, workflow text NOT NULL, key text,
      workflow_hash bytea NOT NULL, queue text NOT NULL, delivery_id uuid NOT NULL, item uuid NOT NULL,
      replay_of uuid, size int NOT NULL, traceparent text, at timestamptz NOT NULL,
      PRIMARY KEY (lane_id, item)
    ) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000,
            autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1)
    """,
    "CREATE INDEX start_request_delivery ON start_request (delivery_id)",
    "GRANT SELECT, INSERT, DELETE ON start_request TO headrace_worker",
    "GRANT SELECT ON start_request TO headrace_operator",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE headrace_owner")
    op.execute("SET LOCAL lock_timeout = '10s'")
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute("SET LOCAL lock_timeout = 0")
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("DROP TABLE start_request")
    op.execute("ALTER TABLE run DROP COLUMN lane")
    op.execute("ALTER TABLE work_item DROP COLUMN lane")
