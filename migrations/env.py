"""Alembic's entry: `migrations.run` hands a connection over; nothing here reads an environment."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="headrace_version")
with context.begin_transaction():
    context.run_migrations()
