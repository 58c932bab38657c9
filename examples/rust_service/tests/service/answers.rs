//! What is answered to whom, when nothing is wrong with the server.

use serde_json::json;

use crate::http::{Answer, ask};
use crate::place::Place;
use crate::{clients, judge};

fn post(place: &Place, path: &str, key: Option<&str>, body: &str) -> Answer {
    let key = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
    ask(place.http, "POST", path, &key, body).unwrap()
}

fn get(place: &Place, path: &str) -> Answer {
    ask(place.http, "GET", path, "", "").unwrap()
}

#[test]
fn customers_orders_and_invoices_are_made_once_and_told() {
    let place = Place::new();
    let service = place.start();
    let customer = clients::customer(&place);

    let again = post(&place, "/customers", None, r#"{"name": "Asha Traders", "email": "asha@example.in"}"#);
    assert_eq!((again.status, again.json()["id"].as_i64()), (200, Some(customer)));
    assert_eq!(post(&place, "/customers", None, r#"{"name": "Somebody", "email": "asha@example.in"}"#).status, 409);

    let lines = json!([{ "description": "Ledger ₹", "quantity": 3, "unit_price_paise": 4_115_250 }]);
    let body = json!({ "customer_id": customer, "lines": lines }).to_string();
    let taken = post(&place, "/orders", Some("first"), &body);
    let order = taken.json();
    assert_eq!((taken.status, &order["lines"], order["total"].as_str()), (201, &lines, Some("₹1,23,457.50")), "{order}");
    let again = post(&place, "/orders", Some("first"), &body);
    assert_eq!((again.status, again.json()), (200, order.clone()));
    let other = json!({ "customer_id": customer, "lines": [{ "description": "Ink", "quantity": 1, "unit_price_paise": 1 }] }).to_string();
    assert_eq!(post(&place, "/orders", Some("first"), &other).status, 422);
    let id = order["id"].as_i64().unwrap();
    assert_eq!(get(&place, &format!("/orders/{id}")).json(), order);

    // Eight at once, of which one issues it.
    let path = format!("/orders/{id}/invoice");
    let mut issued: Vec<Answer> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| post(&place, &path, None, ""))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    issued.sort_by_key(|answer| std::cmp::Reverse(answer.status));
    let statuses: Vec<u16> = issued.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [201, 200, 200, 200, 200, 200, 200, 200]);
    let invoice = issued[0].json();
    assert_eq!((invoice["number"].as_str(), invoice["customer"].as_str()), (Some("CI-000001"), Some("Asha Traders")), "{invoice}");
    assert!(issued.iter().all(|answer| answer.json() == invoice));
    assert_eq!(get(&place, &format!("/invoices/{}", invoice["id"])).json(), invoice);
    // The next number is the next one: nothing was counted up for those that came late.
    let second = post(&place, "/orders", Some("second"), &other).json();
    let second = post(&place, &format!("/orders/{}/invoice", second["id"]), None, "");
    assert_eq!((second.status, second.json()["number"].as_str()), (201, Some("CI-000002")));

    what_makes_no_sense_is_refused(&place, customer);
    assert_eq!(judge::rows(&place, "SELECT count(*) FROM invoicing.orders"), ["2"]);
    the_agent_answers_on_the_same_port(&place);
    service.terminate();
    assert_eq!(service.end(&place).code(), Some(0), "{}", place.log());
}

fn what_makes_no_sense_is_refused(place: &Place, customer: i64) {
    let order = |quantity: i64, price: &str| {
        let line = format!(r#"{{"description": "x", "quantity": {quantity}, "unit_price_paise": {price}}}"#);
        format!(r#"{{"customer_id": {customer}, "lines": [{line}]}}"#)
    };
    let cases = [
        (400, None, order(1, "1")),
        (400, Some("k"), "no json".to_owned()),
        (422, Some("k"), order(0, "1")),
        (422, Some("k"), order(1, "19.95")),
        (422, Some("k"), order(2, "9223372036854775807")),
        (422, Some("k"), r#"{"customer_id": 1000000, "lines": [{"description": "x", "quantity": 1, "unit_price_paise": 1}]}"#.to_owned()),
        (422, Some("k"), format!(r#"{{"customer_id": {customer}, "lines": []}}"#)),
        (422, Some("k"), order(1, "1").replace("\"x\"", r#""a\u0000b""#)),
        (413, Some("k"), format!("{}{}", order(1, "1"), " ".repeat(70_000))),
    ];
    for (status, key, body) in cases {
        let answer = post(place, "/orders", key, &body);
        assert_eq!(answer.status, status, "{body:.200}: {answer:?}");
        assert!(answer.json()["error"].is_string(), "{answer:?}");
    }
    for (status, path) in [(404, "/orders/77"), (404, "/orders/x"), (404, "/invoices/77"), (404, "/nowhere"), (405, "/orders")] {
        assert_eq!(get(place, path).status, status, "{path}");
    }
    assert_eq!(post(place, "/orders/77/invoice", None, "").status, 404);
}

fn the_agent_answers_on_the_same_port(place: &Place) {
    for path in ["/livez", "/startupz", "/readyz"] {
        let answer = get(place, path);
        assert_eq!((answer.status, answer.json()["phase"].as_str()), (200, Some("ready")), "{path}: {answer:?}");
    }
    let health = get(place, "/health").json();
    let findings = health["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["name"] == "probe:orders" && finding["status"] == "pass"), "{health}");
    let metrics = get(place, "/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("pgpersist_agent_phase{phase=\"ready\"} 1\n"), "{}", metrics.body);
    assert_eq!(post(place, "/livez", None, "").status, 405);
    // Whoever comes under another name is led here by a foreign page.
    let foreign = "GET /metrics HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
    let mut stream = crate::http::connect(place.http).unwrap();
    std::io::Write::write_all(&mut stream, foreign.as_bytes()).unwrap();
    assert_eq!(crate::http::finish(stream).unwrap().status, 401);
}
