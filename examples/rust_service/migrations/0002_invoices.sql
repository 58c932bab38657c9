CREATE TABLE invoicing.invoices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL UNIQUE REFERENCES invoicing.orders,
    number bigint NOT NULL UNIQUE,
    total_paise bigint NOT NULL CHECK (total_paise > 0),
    issued_at timestamptz NOT NULL DEFAULT now()
);

-- Numbers of invoices have no gaps, as a sequence would leave them after a rollback: this row is counted up in the
-- transaction that issues the invoice.
CREATE TABLE invoicing.invoice_counter (
    is_the_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_row),
    last bigint NOT NULL
);
INSERT INTO invoicing.invoice_counter (last) VALUES (0);
