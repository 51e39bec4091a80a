"""Alembic's environment: the caller's connection and transaction, nothing else."""

from alembic import context

from api.tables import META

context.configure(connection=context.config.attributes["connection"], target_metadata=META, render_as_batch=True)
context.run_migrations()
