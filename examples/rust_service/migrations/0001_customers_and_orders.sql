CREATE SCHEMA invoicing;

CREATE TABLE invoicing.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    email text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Whoever repeats a request with the same key gets the same order: a client that heard nothing asks again.
CREATE TABLE invoicing.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES invoicing.customers,
    idempotency_key text NOT NULL,
    total_paise bigint NOT NULL CHECK (total_paise > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (customer_id, idempotency_key)
);

-- Amounts are whole paise: ₹1 is 100, and nothing is ever rounded.
CREATE TABLE invoicing.order_lines (
    order_id bigint NOT NULL REFERENCES invoicing.orders,
    line integer NOT NULL,
    description text NOT NULL CHECK (description <> ''),
    quantity integer NOT NULL CHECK (quantity > 0),
    unit_price_paise bigint NOT NULL CHECK (unit_price_paise > 0),
    PRIMARY KEY (order_id, line)
);
