"""What calls of a class (`llm`, `search`, any name) may cost: limits, what is reserved, and what was spent.

Revision ID: 0008
Revises: 0007

A limit holds for a workspace, or for all of them together (workspace 0). A call reserves before it is made and settles
after it, each in a function that locks the class's limits first and looks at the rest then: whoever waited for the lock
sees what the other did. The functions are all that a worker may do to these tables.

- Requests and cost per interval are counted by the generic cell rate algorithm (ITU-T I.371): `…_tat` is the time at
  which an empty bucket would be reached; a request that comes too soon gets the time at which it may come, and is the
  next then, in the order in which they asked.
- A hold that nobody settled within its time was of a worker that died: it is charged as it was reserved.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    """
    CREATE TABLE cost_limit (
      workspace_id int NOT NULL, class text NOT NULL,
      requests int CHECK (requests > 0), cost float8 CHECK (cost > 0), per float8 NOT NULL DEFAULT 60 CHECK (per > 0),
      concurrent int CHECK (concurrent > 0),
      daily float8 CHECK (daily >= 0), monthly float8 CHECK (monthly >= 0),
      requests_tat timestamptz NOT NULL DEFAULT '-infinity', cost_tat timestamptz NOT NULL DEFAULT '-infinity',
      day date NOT NULL DEFAULT '-infinity', day_cost float8 NOT NULL DEFAULT 0,
      month date NOT NULL DEFAULT '-infinity', month_cost float8 NOT NULL DEFAULT 0,
      PRIMARY KEY (class, workspace_id)
    ) WITH (fillfactor = 50)
    """,
    # `begins`: when the call may be made. `until`: when it is over at the latest, settled or not. `granted`: its caller
    # knows that it may; before that nothing can have been spent.
    """
    CREATE TABLE cost_hold (
      id uuid PRIMARY KEY, workspace_id int NOT NULL, class text NOT NULL, workflow text NOT NULL, run_id uuid NOT NULL,
      node text NOT NULL, reserved float8 NOT NULL, begins timestamptz NOT NULL, until timestamptz NOT NULL,
      granted bool NOT NULL)
    """,
    "CREATE INDEX cost_hold_class ON cost_hold (class, workspace_id)",
    """
    CREATE TABLE cost_entry (
      id uuid NOT NULL, workspace_id int NOT NULL, class text NOT NULL, workflow text NOT NULL, run_id uuid NOT NULL,
      node text NOT NULL, at timestamptz NOT NULL, cost float8 NOT NULL)
    """,
    "CREATE INDEX cost_entry_at ON cost_entry (workspace_id, at)",
    "CREATE INDEX cost_entry_run ON cost_entry (run_id)",
    """
    CREATE FUNCTION spend_cost(p_class text, p_workspace int, p_cost float8, p_reserved float8) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, public, pg_temp AS $$
      UPDATE public.cost_limit l SET
        day = (now() AT TIME ZONE 'UTC')::date,
        day_cost = p_cost + CASE WHEN day = (now() AT TIME ZONE 'UTC')::date THEN day_cost ELSE 0 END,
        month = date_trunc('month', now() AT TIME ZONE 'UTC')::date,
        month_cost = p_cost
          + CASE WHEN month = date_trunc('month', now() AT TIME ZONE 'UTC')::date THEN month_cost ELSE 0 END,
        cost_tat = CASE WHEN cost IS NULL OR NOT isfinite(cost_tat) THEN cost_tat
          ELSE cost_tat + make_interval(secs => per * (p_cost - p_reserved) / cost) END
      WHERE l.class = p_class AND l.workspace_id IN (0, p_workspace)
    $$
    """,
    """
    CREATE FUNCTION reserve_cost(p_hold uuid, p_workspace int, p_class text, p_workflow text, p_run uuid, p_node text,
      p_cost float8, p_seconds float8, OUT verdict text, OUT seconds float8, OUT detail text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      l record; h record; moment timestamptz; begins_at timestamptz; busy bigint; open float8;
      today float8; month_ float8; whose text; mine boolean;
    BEGIN
      PERFORM FROM public.cost_limit WHERE class = p_class AND workspace_id IN (0, p_workspace)
        ORDER BY workspace_id FOR UPDATE;
      moment := clock_timestamp();
      FOR h IN DELETE FROM public.cost_hold WHERE class = p_class AND until < moment AND id <> p_hold RETURNING * LOOP
        CONTINUE WHEN NOT h.granted;
        INSERT INTO public.cost_entry VALUES
          (h.id, h.workspace_id, h.class, h.workflow, h.run_id, h.node, h.until, h.reserved);
        PERFORM public.spend_cost(h.class, h.workspace_id, h.reserved, h.reserved);
      END LOOP;
      SELECT begins INTO begins_at FROM public.cost_hold WHERE id = p_hold;
      mine := FOUND;
      begins_at := greatest(begins_at, moment);
      FOR l IN SELECT * FROM public.cost_limit WHERE class = p_class AND workspace_id IN (0, p_workspace)
        ORDER BY workspace_id LOOP
        whose := CASE l.workspace_id WHEN 0 THEN 'all workspaces' ELSE 'this workspace' END;
        SELECT count(*) FILTER (WHERE granted), coalesce(sum(reserved), 0) INTO busy, open
          FROM public.cost_hold WHERE class = p_class AND id <> p_hold
            AND (l.workspace_id = 0 OR workspace_id = l.workspace_id);
        today := CASE WHEN l.day = (now() AT TIME ZONE 'UTC')::date THEN l.day_cost ELSE 0 END;
        month_ := CASE WHEN l.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date THEN l.month_cost ELSE 0 END;
        IF today + open + p_cost > l.daily OR (l.daily IS NOT NULL AND today >= l.daily) THEN
          DELETE FROM public.cost_hold WHERE id = p_hold;
          verdict := 'budget';
          seconds := extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day'
            - (now() AT TIME ZONE 'UTC'));
          detail := format('the budget of %s for %s today: %s of %s are spent, %s reserved', whose, p_class,
            round(today::numeric, 6)::float8, l.daily, open);
          RETURN;
        END IF;
        IF month_ + open + p_cost > l.monthly OR (l.monthly IS NOT NULL AND month_ >= l.monthly) THEN
          DELETE FROM public.cost_hold WHERE id = p_hold;
          verdict := 'budget';
          seconds := extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month'
            - (now() AT TIME ZONE 'UTC'));
          detail := format('the budget of %s for %s this month: %s of %s are spent, %s reserved', whose, p_class,
            round(month_::numeric, 6)::float8, l.monthly, open);
          RETURN;
        END IF;
        IF busy >= l.concurrent AND begins_at <= moment THEN
          verdict := 'busy';
          seconds := 0;
          detail := format('a call of %s: %s of %s of %s are under way', p_class, busy, l.concurrent, whose);
          RETURN;
        END IF;
        IF NOT mine AND l.requests IS NOT NULL THEN
          begins_at := greatest(begins_at,
            greatest(l.requests_tat, moment) + make_interval(secs => l.per / l.requests - l.per));
        END IF;
        IF NOT mine AND l.cost IS NOT NULL THEN
          begins_at := greatest(begins_at, CASE WHEN p_cost >= l.cost THEN greatest(l.cost_tat, moment)
            ELSE greatest(l.cost_tat, moment) + make_interval(secs => l.per * p_cost / l.cost - l.per) END);
        END IF;
      END LOOP;
      IF NOT mine THEN
        UPDATE public.cost_limit SET
          requests_tat = CASE WHEN requests IS NULL THEN requests_tat
            ELSE greatest(requests_tat, moment) + make_interval(secs => per / requests) END,
          cost_tat = CASE WHEN cost IS NULL THEN cost_tat
            ELSE greatest(cost_tat, moment) + make_interval(secs => per * p_cost / cost) END
        WHERE class = p_class AND workspace_id IN (0, p_workspace);
      END IF;
      INSERT INTO public.cost_hold VALUES (p_hold, p_workspace, p_class, p_workflow, p_run, p_node, p_cost, begins_at,
        begins_at + make_interval(secs => p_seconds), begins_at <= moment)
      ON CONFLICT (id) DO UPDATE SET begins = excluded.begins, until = excluded.until, granted = excluded.granted;
      verdict := CASE WHEN begins_at <= moment THEN 'go' ELSE 'later' END;
      seconds := extract(epoch FROM begins_at - moment);
      detail := CASE WHEN begins_at > moment THEN format('the rate of %s: it may call at %s', p_class,
        to_char(begins_at AT TIME ZONE 'UTC', 'HH24:MI:SS.MS')) END;
    END $$
    """,
    """
    CREATE FUNCTION settle_cost(p_hold uuid, p_cost float8) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    #variable_conflict use_column
    DECLARE
      h record;
    BEGIN
      SELECT * INTO h FROM public.cost_hold WHERE id = p_hold;
      IF NOT FOUND THEN
        RETURN false;
      END IF;
      PERFORM FROM public.cost_limit WHERE class = h.class AND workspace_id IN (0, h.workspace_id)
        ORDER BY workspace_id FOR UPDATE;
      DELETE FROM public.cost_hold WHERE id = p_hold;
      IF NOT FOUND THEN
        RETURN false;
      END IF;
      INSERT INTO public.cost_entry VALUES
        (h.id, h.workspace_id, h.class, h.workflow, h.run_id, h.node, clock_timestamp(), p_cost);
      PERFORM public.spend_cost(h.class, h.workspace_id, p_cost, h.reserved);
      RETURN true;
    END $$
    """,
    "REVOKE EXECUTE ON FUNCTION reserve_cost, settle_cost, spend_cost FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION reserve_cost, settle_cost TO headrace_worker",
    "GRANT SELECT, DELETE ON cost_limit TO headrace_operator",
    "GRANT INSERT (workspace_id, class, requests, cost, per, concurrent, daily, monthly),"
    " UPDATE (requests, cost, per, concurrent, daily, monthly) ON cost_limit TO headrace_operator",
    "GRANT SELECT ON cost_hold, cost_entry TO headrace_operator",
)


def upgrade() -> None:
    op.execute("SET LOCAL ROLE headrace_owner")
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("DROP FUNCTION reserve_cost, settle_cost, spend_cost")
    op.execute("DROP TABLE cost_limit, cost_hold, cost_entry")
