"""Invoices, with numbers that have no gaps."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.execute("""
        CREATE TABLE invoice_numbers (
            year integer PRIMARY KEY,
            last integer NOT NULL CHECK (last > 0)
        )""")
    op.execute("""
        CREATE TABLE invoices (
            id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            order_id     bigint NOT NULL UNIQUE REFERENCES orders,
            number       text NOT NULL UNIQUE,
            amount_paise bigint NOT NULL CHECK (amount_paise >= 0),
            issued_at    timestamptz NOT NULL DEFAULT now()
        )""")


def downgrade() -> None:
    """Takes them away, with what they hold."""
    op.execute("DROP TABLE invoices, invoice_numbers")
