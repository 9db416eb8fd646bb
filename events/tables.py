"""The tables as SQLAlchemy sees them, for readers and definitions. The migrations own the truth; a test compares.

`event` is read through here and never written: appends have their own statements (`events.deliveries`, `events.runs`).
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Uuid,
)
from sqlalchemy import BigInteger as Bigint
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

event = Table(
    "event",
    metadata,
    Column("stream_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("position", Bigint),
    Column("recorded_at", DateTime(timezone=True)),
    Column("workspace_id", Integer),
    Column("source_id", Integer),
    Column("type", String),
    Column("metadata", JSONB),
    Column("headers", LargeBinary),
    Column("codec", SmallInteger),
    Column("body", LargeBinary),
)
run = Table(
    "run",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("workspace_id", Integer),
    Column("workflow", String),
    Column("workflow_hash", LargeBinary),
    Column("status", String),
    Column("version", Integer),
    Column("delivery_id", Uuid),
    Column("replay_of", Uuid),
    Column("parent", Uuid),
    Column("fork_of", Uuid),
    Column("started_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("error", String),
)
work_item = Table(
    "work_item",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("stream_id", Uuid),
    Column("kind", SmallInteger),
    Column("queue", String),
    Column("due_at", DateTime(timezone=True)),
    Column("attempt", Integer),
    Column("token", Bigint),
    Column("owner", String),
    Column("only_workflow", String),
    Column("error", String),
    Column("signal", Bigint),
    Column("workspace_id", Integer),
)
start_request = Table(
    "start_request",
    metadata,
    Column("lane_id", Uuid, primary_key=True),
    Column("item", Uuid, primary_key=True),
    Column("seq", Bigint, nullable=False),
    Column("workflow", String, nullable=False),
    Column("key", String),
    Column("delivery_id", Uuid, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
inbox = Table(
    "inbox",
    metadata,
    Column("stream_id", Uuid, primary_key=True),
    Column("seq", Bigint, primary_key=True),
    Column("type", String),
    Column("body", LargeBinary),
    Column("created_at", DateTime(timezone=True)),
)
wait_expression = Table(
    "wait_expression",
    metadata,
    Column("source", String, primary_key=True),
    Column("expression", LargeBinary, primary_key=True),
    Column("text", String),
)
arrival = Table(
    "arrival",
    metadata,
    Column("source", String, primary_key=True),
    Column("expression", LargeBinary, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("delivery_id", Uuid, primary_key=True),
    Column("type", String),
    Column("at", DateTime(timezone=True)),
)
subscription = Table(
    "subscription",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("node", String, primary_key=True),
    Column("source", String),
    Column("expression", LargeBinary),
    Column("key", LargeBinary),
    Column("until", DateTime(timezone=True)),
)
schedule = Table(
    "schedule",
    metadata,
    Column("workspace_id", Integer, primary_key=True),
    Column("workflow", String, primary_key=True),
    Column("expression", String, primary_key=True),
    Column("tz", String, primary_key=True),
    Column("catch_up", String),
    Column("next_at", DateTime(timezone=True)),
)
config = Table("config", metadata, Column("epoch", Bigint))
source = Table(
    "source",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("workspace_id", Integer),
    Column("slug", String),
    Column("definition", JSONB),
    Column("secrets", ARRAY(LargeBinary)),
)
endpoint = Table(
    "endpoint",
    metadata,
    Column("workspace_id", Integer, primary_key=True),
    Column("name", String, primary_key=True),
    Column("url", String),
    Column("secret", LargeBinary),
)
workflow_version = Table(
    "workflow_version",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("workspace_id", Integer, primary_key=True),
    Column("name", String),
    Column("document", JSONB),
)
workflow = Table(
    "workflow",
    metadata,
    Column("workspace_id", Integer, primary_key=True),
    Column("name", String, primary_key=True),
    Column("hash", LargeBinary),
)
