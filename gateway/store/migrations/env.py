"""What Alembic runs: it uses the connection, and so the transaction and the lock, of `Database.open`."""

from alembic import context

from gateway.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
