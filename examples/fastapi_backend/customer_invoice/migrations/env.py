"""What Alembic runs: the migrations that are missing, on the connection that was opened for it."""

from alembic import context

from customer_invoice.tables import Table

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Table.metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
