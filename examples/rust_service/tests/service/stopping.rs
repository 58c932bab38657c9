//! How it ends: first the requests, then the server.

use std::io::{Read, Write};

use crate::place::Place;
use crate::{clients, http, judge};

#[test]
fn a_request_that_has_come_is_finished_before_the_server_goes() {
    let place = Place::new();
    let service = place.start();
    let customer = clients::customer(&place);
    let line = r#"{"description": "Ledger", "quantity": 1, "unit_price_paise": 100}"#;
    let body = format!(r#"{{"customer_id": {customer}, "lines": [{line}]}}"#);
    let mut stream = http::connect(place.http).unwrap();
    let head = http::head("POST", "/orders", "Idempotency-Key: last\r\nExpect: 100-continue\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    // It is asked for its body, and so it has come.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    service.terminate();
    place.wait("the service to take no more requests", || http::connect(place.http).is_err());
    assert_eq!(judge::state(&place.pgdata()), "in production");
    stream.write_all(body.as_bytes()).unwrap();
    let answer = http::finish(stream).unwrap();
    assert_eq!(answer.status, 201, "{answer:?}\n{}", place.log());

    let ended = service.end(&place);
    assert_eq!(ended.code(), Some(0), "{ended}\n{}", place.log());
    assert_eq!(judge::state(&place.pgdata()), "shut down");
    let service = place.start();
    assert_eq!(judge::rows(&place, "SELECT idempotency_key FROM invoicing.orders"), ["last"]);
    service.terminate();
    assert_eq!(service.end(&place).code(), Some(0), "{}", place.log());
}
