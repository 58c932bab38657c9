//! Clients that order without end, each order until it is acknowledged.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::http;
use crate::place::Place;

/// What all clients share.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    pub(crate) is_over: AtomicBool,
    pub(crate) acknowledged: AtomicUsize,
    pub(crate) refused_for_now: AtomicUsize,
}

/// Ends the clients also when the test fails.
pub(crate) struct Over<'a>(pub(crate) &'a Counter);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// An order that got 2xx.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(crate) key: String,
    pub(crate) id: i64,
    pub(crate) total_paise: i64,
}

/// Makes a customer, until that is acknowledged.
pub(crate) fn customer(place: &Place) -> i64 {
    let body = json!({ "name": "Asha Traders", "email": "asha@example.in" }).to_string();
    let answer = http::ask(place.http, "POST", "/customers", "", &body).unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_i64().unwrap()
}

/// Orders until it is over. Who hears nothing, or 503, asks again with the same key.
pub(crate) fn order(place: &Place, customer: i64, client: usize, counter: &Counter) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 1i64.. {
        let key = format!("{client}-{number}");
        let lines: Vec<_> = (0..=number % 3)
            .map(|line| json!({ "description": format!("Ledger {line}"), "quantity": line + 1, "unit_price_paise": 19_950 + number }))
            .collect();
        let total_paise = (0..=number % 3).map(|line| (line + 1) * (19_950 + number)).sum();
        let body = json!({ "customer_id": customer, "lines": lines }).to_string();
        loop {
            if counter.is_over.load(Ordering::SeqCst) {
                return acknowledged;
            }
            match http::ask(place.http, "POST", "/orders", &format!("Idempotency-Key: {key}\r\n"), &body) {
                Ok(answer) if matches!(answer.status, 200 | 201) => {
                    let order = answer.json();
                    assert_eq!(order["total_paise"], total_paise, "{order}");
                    acknowledged.push(Acknowledged { key, id: order["id"].as_i64().unwrap(), total_paise });
                    counter.acknowledged.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Ok(answer) => {
                    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}\n{}", place.log());
                    counter.refused_for_now.fetch_add(1, Ordering::SeqCst);
                }
                // The service was killed, too.
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    unreachable!("there are more numbers than time")
}
