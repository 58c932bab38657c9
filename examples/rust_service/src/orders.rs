//! `POST /orders` and `GET /orders/{id}`.
//!
//! An order comes with an `Idempotency-Key` of the client's choice. Whoever hears nothing, or 503, cannot know whether the order
//! was taken; the same request with the same key takes it if it was not, and else tells what was taken. So a client that asks
//! until it hears 2xx has its order exactly once, whatever is killed meanwhile.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;
use tokio_postgres::{GenericClient, Row};

use crate::failure::Failure;
use crate::money::Paise;
use crate::requests::{Body, id, text};
use crate::routes::Service;

/// How many lines an order may have.
const LINES: usize = 100;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    customer_id: i64,
    lines: Vec<Line>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    description: String,
    quantity: i32,
    unit_price_paise: Paise,
}

/// What is answered.
#[derive(Debug, Serialize)]
pub(crate) struct Order {
    id: i64,
    customer_id: i64,
    created_at: String,
    lines: Vec<Line>,
    total_paise: Paise,
    total: String,
}

/// Takes an order: 201, or 200 where it was taken before.
pub(crate) async fn create(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    Body(new): Body<NewOrder>,
) -> Result<(StatusCode, Json<Order>), Failure> {
    let key = key(&headers)?;
    let (lines, total) = checked(new.lines)?;
    let mut session = service.pool.session().await?;
    let transaction = session.transaction().await?;
    // Where the same key is just being inserted, this waits for what becomes of that.
    let insert = "INSERT INTO invoicing.orders (customer_id, idempotency_key, total_paise) VALUES ($1, $2, $3) \
                  ON CONFLICT (customer_id, idempotency_key) DO NOTHING RETURNING id";
    let inserted = transaction.query_opt(insert, &[&new.customer_id, &key, &total.0]).await.map_err(|error| match error.code() {
        Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION => Failure::senseless("there is no such customer"),
        _ => error.into(),
    })?;
    let Some(row) = inserted else {
        let known = "SELECT id FROM invoicing.orders WHERE customer_id = $1 AND idempotency_key = $2";
        let id = transaction.query_one(known, &[&new.customer_id, &key]).await?.get(0);
        let order = load(&transaction, id).await?;
        if order.lines != lines {
            return Err(Failure::senseless("this key was used for another order"));
        }
        return Ok((StatusCode::OK, Json(order)));
    };
    let insert_lines = "INSERT INTO invoicing.order_lines (order_id, line, description, quantity, unit_price_paise) \
                        SELECT $1, line, description, quantity, price \
                        FROM unnest($2::text[], $3::int[], $4::bigint[]) WITH ORDINALITY AS l (description, quantity, price, line)";
    let id: i64 = row.get(0);
    let descriptions: Vec<&str> = lines.iter().map(|line| line.description.as_str()).collect();
    let quantities: Vec<i32> = lines.iter().map(|line| line.quantity).collect();
    let prices: Vec<i64> = lines.iter().map(|line| line.unit_price_paise.0).collect();
    transaction.execute(insert_lines, &[&id, &descriptions, &quantities, &prices]).await?;
    let order = load(&transaction, id).await?;
    // Only what is committed is answered with 2xx.
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(order)))
}

/// Tells an order.
pub(crate) async fn show(State(service): State<Arc<Service>>, path: Result<Path<i64>, PathRejection>) -> Result<Json<Order>, Failure> {
    let id = id(path)?;
    let session = service.pool.session().await?;
    load(&*session, id).await.map(Json)
}

async fn load(client: &impl GenericClient, id: i64) -> Result<Order, Failure> {
    let find =
        "SELECT customer_id, total_paise, to_char(created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM invoicing.orders WHERE id = $1";
    let Some(row) = client.query_opt(find, &[&id]).await? else { return Err(Failure::not_found("there is no such order")) };
    let total = Paise(row.get(1));
    let lines = lines(client, id).await?;
    Ok(Order { id, customer_id: row.get(0), created_at: row.get(2), lines, total_paise: total, total: total.to_string() })
}

/// The lines of an order, as they were ordered.
pub(crate) async fn lines(client: &impl GenericClient, order: i64) -> Result<Vec<Line>, Failure> {
    let find = "SELECT description, quantity, unit_price_paise FROM invoicing.order_lines WHERE order_id = $1 ORDER BY line";
    let line = |row: &Row| Line { description: row.get(0), quantity: row.get(1), unit_price_paise: Paise(row.get(2)) };
    Ok(client.query(find, &[&order]).await?.iter().map(line).collect())
}

fn key(headers: &HeaderMap) -> Result<String, Failure> {
    let wanted =
        || Failure::malformed("send an `Idempotency-Key` of your choice, 1 to 200 visible characters, and the same one when you ask again");
    let mut keys = headers.get_all("idempotency-key").iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(wanted()) };
    let key = key.to_str().map_err(|_| wanted())?;
    text("Idempotency-Key", key, 200).map_err(|_| wanted())
}

/// The lines as they are stored, and their sum.
fn checked(lines: Vec<Line>) -> Result<(Vec<Line>, Paise), Failure> {
    if lines.is_empty() || lines.len() > LINES {
        return Err(Failure::senseless(format!("an order has 1 to {LINES} lines")));
    }
    let (mut total, mut stored) = (Paise(0), Vec::new());
    for line in lines {
        if line.quantity <= 0 || line.unit_price_paise <= Paise(0) {
            return Err(Failure::senseless("`quantity` and `unit_price_paise` are to be above 0"));
        }
        let sum = line.unit_price_paise.times(line.quantity).and_then(|price| total.plus(price));
        total = sum.ok_or_else(|| Failure::senseless("this is more money than there is"))?;
        stored.push(Line { description: text("description", &line.description, 500)?, ..line });
    }
    Ok((stored, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(quantity: i32, price: i64) -> Line {
        Line { description: " Notebook ".to_owned(), quantity, unit_price_paise: Paise(price) }
    }

    #[test]
    fn an_order_is_worth_the_sum_of_its_lines() {
        let (lines, total) = checked(vec![line(3, 19_950), line(1, 1)]).unwrap();
        assert_eq!((lines[0].description.as_str(), total), ("Notebook", Paise(59_851)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let many = (0..=LINES).map(|_| line(1, 1)).collect();
        for wrong in [vec![], vec![line(0, 1)], vec![line(-1, -1)], vec![line(1, 0)], vec![line(2, i64::MAX)], many] {
            assert!(checked(wrong).is_err());
        }
    }

    #[test]
    fn one_key_is_wanted() {
        let headers = |keys: &[&'static str]| keys.iter().map(|key| ("idempotency-key".parse().unwrap(), key.parse().unwrap())).collect();
        assert_eq!(key(&headers(&["8e03978e"])).unwrap(), "8e03978e");
        assert!(key(&headers(&[])).is_err() && key(&headers(&["a", "b"])).is_err() && key(&headers(&[" "])).is_err());
    }
}
