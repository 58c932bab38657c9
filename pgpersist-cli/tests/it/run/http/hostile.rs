//! Slow, large, wrong and many: nothing of it hurts the agent or its probes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::run::http::stopped;
use crate::run::{Agent, eventually};
use crate::support::exposition;
use crate::support::http::{ask, connect, get, send, status, try_send};

/// How long a probe may take: less than the five seconds after which a silent client loses its place anyway. Then it did not wait
/// for one.
const IN_TIME: Duration = Duration::from_secs(4);

/// Asks as the kubelet does.
#[track_caller]
fn is_probed_in_time(port: u16) {
    for path in ["/livez", "/readyz", "/startupz"] {
        let asked = Instant::now();
        let answer = status(port, path);
        assert!(answer == Some(200) && asked.elapsed() < IN_TIME, "{path}: {answer:?} after {:?}", asked.elapsed());
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_right_word() {
    let (cluster, port) = stopped();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let answer = ask(port, method, "/livez", "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}: {answer:?}");
    }
    let body = "x".repeat(100_000);
    for headers in
        [format!("Content-Length: {}\r\n\r\n{body}", body.len()), "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n".to_owned()]
    {
        assert_eq!(ask(port, "GET", "/livez", &headers).status, 413);
    }
    assert_eq!(ask(port, "GET", "/livez", "Content-Length: 0\r\n").status, 200);
    assert_eq!(ask(port, "GET", "/livez", "Content-Length: 5\r\nExpect: 100-continue\r\n").status, 413);
    for length in [3_000, 100_000] {
        assert_eq!(get(port, &format!("/{}", "a".repeat(length))).status, 414);
        assert_eq!(send(port, "a".repeat(length).as_bytes()).status, 414);
    }
    for length in [8_200, 100_000, 3_000_000] {
        // The last one is cut off while it is still being sent, and may not hear why.
        let large = format!("GET /livez HTTP/1.1\r\nX-Large: {}\r\n\r\n", "a".repeat(length));
        match try_send(port, large.as_bytes()) {
            Ok(answer) => assert!(answer.starts_with(b"HTTP/1.1 431 "), "{length}: {}", String::from_utf8_lossy(&answer)),
            Err(error) => assert!(length > 1_000_000, "{length}: {error}"),
        }
    }
    assert_eq!(ask(port, "GET", "/livez", &"X-Many: 1\r\n".repeat(500)).status, 431);
    for garbage in ["GET\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n", "GET /livez HTTP/9.9\r\n\r\n", "GET /livez HTTP/1.1\r\n: x\r\n\r\n"] {
        assert_eq!(send(port, garbage.as_bytes()).status, 400, "{garbage:?}");
    }
    assert_eq!(send(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status, 505);
    assert_eq!(send(port, b"GET /livez HTTP/1.0\r\n\r\n").status, 200);
    // Whoever sends the second request before the first answer gets the first answer.
    assert_eq!(send(port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    is_probed_in_time(port);

    // Counted, with a label for what there is and one for all the rest.
    for path in ["/a", "/b", "/c"] {
        assert_eq!(get(port, path).status, 404);
    }
    let page = exposition::parse(&get(port, "/metrics").body);
    assert!(page.value("pgpersist_http_requests_total", &[("path", "other"), ("code", "404")]) >= 3.0);
    assert!(page.value("pgpersist_http_requests_total", &[("path", "malformed"), ("code", "414")]) >= 4.0);
    assert!(page.value("pgpersist_http_requests_total", &[("path", "malformed"), ("code", "431")]) >= 3.0);
    assert!(page.value("pgpersist_http_requests_total", &[("path", "malformed"), ("code", "400")]) >= 4.0);
    agent.stopped();
}

#[test]
fn who_sends_slowly_is_sent_away_and_holds_up_nobody() {
    let (cluster, port) = stopped();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    let began = Instant::now();
    // Fewer than there is room for, so that nobody is closed for another; half of them say nothing at all.
    let mut slow: Vec<TcpStream> = (0..40).map(|_| connect(port).unwrap()).collect();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(4) {
        for stream in &mut slow[..20] {
            stream.write_all(&b"GET /livez HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaa"[sent..=sent]).unwrap();
        }
        sent += 1;
        is_probed_in_time(port);
        std::thread::sleep(Duration::from_millis(300));
    }
    for (number, mut stream) in slow.into_iter().enumerate() {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{number}: {}", String::from_utf8_lossy(&answer));
    }
    let lasted = began.elapsed();
    assert!(lasted > Duration::from_secs(4) && lasted < Duration::from_secs(9), "they lasted {lasted:?}");
    // Who asks and does not take the answer goes, too.
    let mut stream = connect(port).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    eventually("nothing is left open", || sockets(&agent) < 10);
    agent.stopped();
}

#[test]
fn two_thousand_connections_leave_room_for_a_probe() {
    let most = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: most.maximum, maximum: most.maximum }).unwrap();
    let (cluster, port) = stopped();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    let before = (sockets(&agent), resident_kib(&agent));
    let mut open = Vec::new();
    for number in 0..2000 {
        // Every other one begins to ask.
        let mut stream = connect(port).unwrap();
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-");
        }
        open.push(stream);
        if number % 100 == 99 {
            is_probed_in_time(port);
        }
    }
    let (sockets_now, resident_now) = (sockets(&agent), resident_kib(&agent));
    assert!(sockets_now < before.0 + 300, "{sockets_now} sockets, {} before", before.0);
    assert!(resident_now < before.1 + 8 * 1024, "{resident_now} KiB, {} before", before.1);
    // They come from all sides at once, while the first are still held open.
    let crowd: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..100 {
                    drop(connect(port).map(|mut stream| stream.write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")));
                }
            })
        })
        .collect();
    let mut probed = 0;
    while probed == 0 || crowd.iter().any(|thread| !thread.is_finished()) {
        is_probed_in_time(port);
        probed += 1;
    }
    crowd.into_iter().for_each(|thread| thread.join().unwrap());
    drop(open);
    is_probed_in_time(port);
    // While the crowd's questions are still worked off, a question that costs something is sent away.
    let mut answer = None;
    eventually("there is room for metrics", || {
        answer = Some(get(port, "/metrics")).filter(|answer| answer.status == 200);
        answer.is_some()
    });
    let page = exposition::parse(&answer.unwrap().body);
    // On a slow machine some of them were too slow before they were too many.
    let late = page.find("pgpersist_http_requests_total", &[("path", "malformed"), ("code", "408")]).unwrap_or_default();
    assert!(page.value("pgpersist_http_connections_displaced_total", &[]) + late > 1500.0);
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
    agent.stopped();
}

/// How many sockets the agent has open.
fn sockets(agent: &Agent) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", agent.child.id())).unwrap().flatten();
    descriptors.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))).count()
}

fn resident_kib(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
