"""Customers, their orders and invoices, in ₹; over HTTP, from a PostgreSQL cluster of its own."""
