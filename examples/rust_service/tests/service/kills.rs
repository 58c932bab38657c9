//! SIGKILL under load: the server alone, and then the service with it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rustix::process::{Signal, kill_process};

use crate::clients::{self, Acknowledged, Counter, Over};
use crate::place::{Place, Service, children};
use crate::{http, judge};

/// How many clients order at the same time.
const CLIENTS: usize = 4;
/// How many orders are to be acknowledged between two kills.
const BETWEEN: usize = 25;
/// Every fourth kill takes the service along. An agent whose server ends by itself seven times in ten minutes gives up, and this
/// gives a new one its turn.
const ALL: usize = 4;

#[test]
fn what_was_acknowledged_is_there_exactly_once_whatever_was_killed() {
    let kills = std::env::var("PGPERSIST_SERVICE_KILLS").ok().map_or(ALL, |number| number.parse().unwrap());
    let place = Place::new();
    let mut service = place.start();
    let customer = clients::customer(&place);
    let counter = Counter::default();
    let acknowledged: Vec<Acknowledged> = std::thread::scope(|scope| {
        let over = Over(&counter);
        let ordering: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let (place, counter) = (&place, &counter);
                    move || clients::order(place, customer, client, counter)
                })
            })
            .collect();
        for kill in 1..=kills {
            wait_for_orders(&place, &counter);
            if kill % ALL == 0 {
                assert!(restarts(&place) >= ALL - 1);
                kill_all(&place, service);
                assert_eq!(place.readiness(), None);
                service = place.start();
            } else {
                kill_server(&place);
                place.wait("the service to be ready again", || place.readiness() == Some(200));
            }
        }
        wait_for_orders(&place, &counter);
        // Also what is acknowledged while it drains is there.
        service.terminate();
        let ended = service.end(&place);
        assert_eq!(ended.code(), Some(0), "{ended}\n{}", place.log());
        drop(over);
        ordering.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(judge::state(&place.pgdata()), "shut down");
    assert!(counter.refused_for_now.load(Ordering::SeqCst) > 0);

    let service = place.start();
    let log = place.log();
    let made = ["created the cluster", "adopted the cluster"].map(|made| log.matches(made).count());
    assert_eq!(made, [1, kills / ALL + 1], "{log}");
    compare(&place, &acknowledged);
    service.terminate();
    assert_eq!(service.end(&place).code(), Some(0), "{}", place.log());
    assert_eq!(judge::state(&place.pgdata()), "shut down");
}

fn wait_for_orders(place: &Place, counter: &Counter) {
    let wanted = counter.acknowledged.load(Ordering::SeqCst) + BETWEEN;
    place.wait("orders to be taken", || counter.acknowledged.load(Ordering::SeqCst) >= wanted);
}

/// Kills the postmaster, and sees that the service is told to be unready.
fn kill_server(place: &Place) {
    let postmaster = place.postmaster();
    // One of its processes stands still and so keeps the lock: without it, a machine that is busy with something else may look only
    // when the next server is up.
    let children = children(postmaster);
    let (held, _) = children.iter().find(|(_, title)| title.contains("checkpointer")).unwrap();
    kill_process(*held, Signal::STOP).unwrap();
    kill_process(postmaster, Signal::KILL).unwrap();
    place.wait("the service to be unready", || place.readiness() == Some(503));
    let alive = http::ask(place.http, "GET", "/livez", "", "").unwrap();
    assert_eq!(alive.status, 200, "{alive:?}");
    // It may have been ended by now.
    let _ = kill_process(*held, Signal::CONT);
}

/// Kills all there is, as when a container dies.
fn kill_all(place: &Place, service: Service) {
    let postmaster = place.postmaster();
    let children = children(postmaster);
    service.kill();
    kill_process(postmaster, Signal::KILL).unwrap();
    for (child, _) in children {
        let _ = kill_process(child, Signal::KILL);
    }
}

fn restarts(place: &Place) -> usize {
    let metrics = http::ask(place.http, "GET", "/metrics", "", "").unwrap();
    let line = metrics.body.lines().find_map(|line| line.strip_prefix("pgpersist_server_restarts_total "));
    line.unwrap_or_else(|| panic!("{metrics:?}")).parse().unwrap()
}

/// Asks psql for all orders. Those that nobody acknowledged may be there, but whole and once, too.
fn compare(place: &Place, acknowledged: &[Acknowledged]) {
    let query = "SELECT concat_ws(' ', idempotency_key, id, total_paise, \
                 (SELECT sum(quantity * unit_price_paise) FROM invoicing.order_lines WHERE order_id = orders.id)) FROM invoicing.orders";
    let mut there: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for row in judge::rows(place, query) {
        let fields: Vec<&str> = row.split(' ').collect();
        let [key, id, total, sum] = fields[..] else { panic!("an order without lines: {row}") };
        assert_eq!(total, sum, "a torn order: {row}");
        there.entry(key.to_owned()).or_default().push((id.parse().unwrap(), total.parse().unwrap()));
    }
    let twice: Vec<_> = there.iter().filter(|(_, orders)| orders.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let lost: Vec<_> = acknowledged.iter().filter(|order| there.get(&order.key) != Some(&vec![(order.id, order.total_paise)])).collect();
    assert!(lost.is_empty(), "{} of {} lost or changed: {lost:?}", lost.len(), acknowledged.len());
    let unacknowledged = there.len() - acknowledged.len();
    assert!(unacknowledged <= CLIENTS, "{unacknowledged} orders that nobody waits for");
}
