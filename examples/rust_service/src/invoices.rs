//! `POST /orders/{id}/invoice` and `GET /invoices/{id}`. An order has one invoice; invoices are numbered without gaps.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use tokio_postgres::GenericClient;

use crate::failure::Failure;
use crate::money::Paise;
use crate::orders::{self, Line};
use crate::requests::id;
use crate::routes::Service;

/// What is answered.
#[derive(Debug, Serialize)]
pub(crate) struct Invoice {
    id: i64,
    number: String,
    issued_at: String,
    order_id: i64,
    customer: String,
    lines: Vec<Line>,
    total_paise: Paise,
    total: String,
}

/// Issues the invoice of an order: 201, or 200 where it was issued before.
pub(crate) async fn issue(
    State(service): State<Arc<Service>>,
    path: Result<Path<i64>, PathRejection>,
) -> Result<(StatusCode, Json<Invoice>), Failure> {
    let order = id(path)?;
    let mut session = service.pool.session().await?;
    let transaction = session.transaction().await?;
    // Whoever asks for the same at the same time waits here.
    let find = "SELECT total_paise FROM invoicing.orders WHERE id = $1 FOR UPDATE";
    let Some(found) = transaction.query_opt(find, &[&order]).await? else { return Err(Failure::not_found("there is no such order")) };
    if let Some(row) = transaction.query_opt("SELECT id FROM invoicing.invoices WHERE order_id = $1", &[&order]).await? {
        return Ok((StatusCode::OK, Json(load(&transaction, row.get(0)).await?)));
    }
    let count = "UPDATE invoicing.invoice_counter SET last = last + 1 RETURNING last";
    let number: i64 = transaction.query_one(count, &[]).await?.get(0);
    let total: i64 = found.get(0);
    let insert = "INSERT INTO invoicing.invoices (order_id, number, total_paise) VALUES ($1, $2, $3) RETURNING id";
    let row = transaction.query_one(insert, &[&order, &number, &total]).await?;
    let invoice = load(&transaction, row.get(0)).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(invoice)))
}

/// Tells an invoice.
pub(crate) async fn show(State(service): State<Arc<Service>>, path: Result<Path<i64>, PathRejection>) -> Result<Json<Invoice>, Failure> {
    let id = id(path)?;
    let session = service.pool.session().await?;
    load(&*session, id).await.map(Json)
}

async fn load(client: &impl GenericClient, id: i64) -> Result<Invoice, Failure> {
    let find = "SELECT i.number, to_char(i.issued_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), i.order_id, c.name, i.total_paise \
                FROM invoicing.invoices i JOIN invoicing.orders o ON o.id = i.order_id \
                JOIN invoicing.customers c ON c.id = o.customer_id WHERE i.id = $1";
    let Some(row) = client.query_opt(find, &[&id]).await? else { return Err(Failure::not_found("there is no such invoice")) };
    let (order_id, total) = (row.get(2), Paise(row.get(4)));
    Ok(Invoice {
        id,
        number: format!("CI-{:06}", row.get::<_, i64>(0)),
        issued_at: row.get(1),
        order_id,
        customer: row.get(3),
        lines: orders::lines(client, order_id).await?,
        total_paise: total,
        total: total.to_string(),
    })
}
