"""Customers, orders, invoices."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.execute("""
        CREATE TABLE customers (
            id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name       text NOT NULL CHECK (name <> ''),
            email      text NOT NULL UNIQUE,
            created_at timestamptz NOT NULL DEFAULT now()
        )""")
    op.execute("""
        CREATE TABLE orders (
            id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            customer_id     bigint NOT NULL REFERENCES customers,
            idempotency_key text NOT NULL UNIQUE,
            request_sha256  text NOT NULL,
            total_paise     bigint NOT NULL CHECK (total_paise >= 0),
            placed_at       timestamptz NOT NULL DEFAULT now()
        )""")
    op.execute("CREATE INDEX ON orders (customer_id)")
    op.execute("""
        CREATE TABLE order_lines (
            order_id         bigint NOT NULL REFERENCES orders,
            number           integer NOT NULL,
            description      text NOT NULL CHECK (description <> ''),
            quantity         integer NOT NULL CHECK (quantity > 0),
            unit_price_paise bigint NOT NULL CHECK (unit_price_paise >= 0),
            PRIMARY KEY (order_id, number)
        )""")


def downgrade() -> None:
    """Takes them away, with what they hold."""
    op.execute("DROP TABLE order_lines, orders, customers")
