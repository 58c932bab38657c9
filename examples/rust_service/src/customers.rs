//! `POST /customers`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::requests::{Body, text};
use crate::routes::Service;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCustomer {
    name: String,
    email: String,
}

/// What is answered.
#[derive(Debug, Serialize)]
pub(crate) struct Customer {
    id: i64,
    name: String,
    email: String,
}

/// Makes a customer. An address of mail is one customer's: the same request again finds him, with 200.
pub(crate) async fn create(
    State(service): State<Arc<Service>>,
    Body(new): Body<NewCustomer>,
) -> Result<(StatusCode, Json<Customer>), Failure> {
    let (name, email) = (text("name", &new.name, 200)?, text("email", &new.email, 254)?);
    if !email.contains('@') {
        return Err(Failure::senseless("`email` is no address"));
    }
    let session = service.pool.session().await?;
    // One statement is a transaction of its own: the row comes back after its commit.
    let insert = "INSERT INTO invoicing.customers (name, email) VALUES ($1, $2) ON CONFLICT (email) DO NOTHING RETURNING id";
    if let Some(row) = session.query_opt(insert, &[&name, &email]).await? {
        return Ok((StatusCode::CREATED, Json(Customer { id: row.get(0), name, email })));
    }
    let there = session.query_one("SELECT id, name FROM invoicing.customers WHERE email = $1", &[&email]).await?;
    if there.get::<_, &str>(1) != name {
        return Err(Failure::Refused(StatusCode::CONFLICT, "this address is another customer's".to_owned()));
    }
    Ok((StatusCode::OK, Json(Customer { id: there.get(0), name, email })))
}
