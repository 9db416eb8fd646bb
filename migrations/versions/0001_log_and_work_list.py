"""The event log, the dedup keys, the work list, the heads of runs, the definitions, and the roles.

Revision ID: 0001
Revises:

The shape is `docs/event-log.md`. Three things cannot be said in a table definition and are said here:

- Append-only is enforced twice: no process role holds UPDATE, DELETE or TRUNCATE on `event`, and triggers refuse all
  three for everybody else, the owner and a superuser included. A statement against one partition passes the parent's
  statement trigger, so `make_event_partitions` gives every partition its own.
- Partitions are bounded by UUIDv7 floors, week by week (Monday, UTC). There is no DEFAULT partition: a row that fits
  nowhere is an error that somebody sees.
- Roles belong to the whole server while databases are many, so that a role that exists already is not an error.
"""

from alembic import op

revision = "0001"
down_revision = None

ROLES = ("headrace_owner", "headrace_ingest", "headrace_worker", "headrace_relay", "headrace_operator")

CREATE_ROLE = """
DO $$ BEGIN
  CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

# A member may take the role on with SET ROLE, which is how every process narrows a broader login.
JOIN_ROLE = """
DO $$ BEGIN
  IF NOT pg_has_role(current_user, '{role}', 'USAGE') THEN EXECUTE format('GRANT {role} TO %I', current_user); END IF;
END $$
"""

TABLES = (
    "CREATE TABLE workspace (id int PRIMARY KEY, slug text NOT NULL UNIQUE)",
    "INSERT INTO workspace VALUES (1, 'default')",
    # One row; its number rises with every `apply`, so that a process can ask cheaply whether it is up to date.
    "CREATE TABLE config (epoch bigint NOT NULL)",
    "INSERT INTO config VALUES (1)",
    """
    CREATE TABLE source (
      id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, workspace_id int NOT NULL REFERENCES workspace,
      slug text NOT NULL UNIQUE, definition jsonb NOT NULL, secrets bytea[] NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT clock_timestamp())
    """,
    """
    CREATE TABLE endpoint (
      workspace_id int NOT NULL REFERENCES workspace, name text NOT NULL, url text NOT NULL, secret bytea,
      applied_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (workspace_id, name))
    """,
    # Every version ever applied stays: a run pins its hash.
    """
    CREATE TABLE workflow_version (
      hash bytea PRIMARY KEY, workspace_id int NOT NULL REFERENCES workspace, name text NOT NULL,
      document jsonb NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())
    """,
    """
    CREATE TABLE workflow (
      workspace_id int NOT NULL REFERENCES workspace, name text NOT NULL,
      hash bytea NOT NULL REFERENCES workflow_version, applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      PRIMARY KEY (workspace_id, name))
    """,
    "CREATE SEQUENCE event_position CACHE 1",
    """
    CREATE TABLE event (
      stream_id uuid NOT NULL, version int NOT NULL,
      position bigint NOT NULL DEFAULT nextval('event_position'),
      tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
      recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      workspace_id int NOT NULL, source_id int, type text NOT NULL,
      metadata jsonb, key_id bigint, headers bytea, codec smallint NOT NULL DEFAULT 0, body bytea,
      PRIMARY KEY (stream_id, version)
    ) PARTITION BY RANGE (stream_id)
    """,
    "CREATE INDEX event_order ON event (tx, position)",
    "CREATE INDEX event_recorded ON event USING brin (recorded_at) WITH (autosummarize = on)",
    """
    CREATE TABLE delivery_key (
      source_id int NOT NULL, key bytea NOT NULL CHECK (length(key) = 16), stream_id uuid NOT NULL,
      first_seen timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (source_id, key)
    ) PARTITION BY HASH (source_id, key)
    """,
    *(
        f"CREATE TABLE delivery_key_{n} PARTITION OF delivery_key FOR VALUES WITH (MODULUS 4, REMAINDER {n})"
        for n in range(4)
    ),
    # Rows live for seconds: leave room for updates in place, and vacuum early.
    """
    CREATE TABLE work_item (
      id uuid PRIMARY KEY, stream_id uuid NOT NULL, kind smallint NOT NULL, queue text NOT NULL,
      due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      attempt int NOT NULL DEFAULT 0, token bigint NOT NULL DEFAULT 0, owner text, seen_version int,
      only_workflow text, error text
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000,
            autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_threshold = -1)
    """,
    "CREATE INDEX work_item_due ON work_item (queue, due_at) WHERE attempt < 2",
    "CREATE INDEX work_item_suspect ON work_item (queue, due_at) WHERE attempt >= 2",
    """
    CREATE TABLE run (
      id uuid PRIMARY KEY, workspace_id int NOT NULL, workflow text NOT NULL, workflow_hash bytea NOT NULL,
      status text NOT NULL, version int NOT NULL, delivery_id uuid, replay_of uuid,
      started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      ended_at timestamptz, error text
    ) WITH (fillfactor = 85)
    """,
    "CREATE INDEX run_delivery ON run (delivery_id)",
    "CREATE INDEX run_trouble ON run (status, id) WHERE status IN ('failed', 'parked')",
)

# What is worth it was compressed before it came (events.codec); a second try at every row would only cost.
COMPRESSION = "ALTER TABLE event ALTER COLUMN body SET STORAGE EXTERNAL"

REFUSE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the event log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'Retention drops whole partitions; erasure destroys a key.';
END $$
"""

# Week by week from `first` until `last`. Safe to call from several processes at once, and again. A table is made and
# then attached: CREATE … PARTITION OF would wait behind every reader of the log, and every append behind that.
MAKE_PARTITIONS = """
CREATE FUNCTION make_event_partitions(first timestamptz, last timestamptz) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public SET lock_timeout = '3s' AS $$
DECLARE
  week timestamp := date_trunc('week', first AT TIME ZONE 'UTC');
  name text; made int := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('headrace.partitions', 0));
  WHILE week <= (last AT TIME ZONE 'UTC') LOOP
    name := format('event_%s', to_char(week, 'IYYY"w"IW'));
    IF to_regclass('public.' || name) IS NULL THEN
      EXECUTE format('CREATE TABLE public.%I (LIKE public.event INCLUDING ALL)', name);
      EXECUTE format('CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I '
                     'FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change()', name);
      EXECUTE format('ALTER TABLE public.event ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                     name, uuid_floor(week AT TIME ZONE 'UTC'),
                     uuid_floor((week + interval '7 days') AT TIME ZONE 'UTC'));
      made := made + 1;
    END IF;
    week := week + interval '7 days';
  END LOOP;
  RETURN made;
END $$
"""

UUID_FLOOR = """
CREATE FUNCTION uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$
"""

GRANTS = (
    "GRANT USAGE ON SCHEMA public TO headrace_ingest, headrace_worker, headrace_relay, headrace_operator",
    # ingest: append, and read just what tells a duplicate and a source.
    "GRANT INSERT ON event, delivery_key, work_item TO headrace_ingest",
    "GRANT SELECT (stream_id) ON event TO headrace_ingest",
    "GRANT SELECT (source_id, key, stream_id) ON delivery_key TO headrace_ingest",
    "GRANT SELECT ON source, config TO headrace_ingest",
    "GRANT USAGE ON SEQUENCE event_position TO headrace_ingest, headrace_worker, headrace_operator",
    # worker: append to what it holds, and keep the work list.
    "GRANT SELECT, INSERT ON event TO headrace_worker, headrace_operator",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON work_item TO headrace_worker",
    "GRANT SELECT, INSERT, UPDATE ON run TO headrace_worker",
    "GRANT SELECT ON config, source, endpoint, workflow, workflow_version TO headrace_worker",
    # relay: looks, and makes partitions.
    "GRANT SELECT ON work_item, config TO headrace_relay",
    "REVOKE EXECUTE ON FUNCTION make_event_partitions FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION make_event_partitions TO headrace_relay",
    # operator (command line): reads all, applies definitions, asks for replays.
    "GRANT SELECT ON delivery_key, run, work_item, workspace TO headrace_operator",
    "GRANT INSERT ON work_item TO headrace_operator",
    "GRANT SELECT, INSERT, UPDATE ON source, endpoint, workflow, workflow_version, config TO headrace_operator",
)


def upgrade() -> None:
    for role in ROLES:
        op.execute(CREATE_ROLE.format(role=role))
        op.execute(JOIN_ROLE.format(role=role))
    op.execute("GRANT CREATE, USAGE ON SCHEMA public TO headrace_owner")
    op.execute("SET LOCAL ROLE headrace_owner")
    for statement in (*TABLES, COMPRESSION, REFUSE, UUID_FLOOR, MAKE_PARTITIONS):
        op.execute(statement)
    op.execute(
        "CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON event FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON event "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    for statement in GRANTS:
        op.execute(statement)
    op.execute("SELECT make_event_partitions(now() - interval '7 days', now() + interval '28 days')")
    op.execute("RESET ROLE")


def downgrade() -> None:
    raise RuntimeError("the event log is not taken down by a migration; drop the database if that is what you mean")
