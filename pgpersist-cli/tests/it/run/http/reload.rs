//! SIGHUP: another address, another token, or the old ones.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::run::http::section;
use crate::run::{Agent, eventually};
use crate::support::cluster::TestCluster;
use crate::support::http::{ask, free_port, get, status};

#[test]
fn a_reload_rebinds_or_keeps_the_old_address_and_says_so() {
    let (first, second) = (free_port(), free_port());
    let cluster = TestCluster::stopped(&section(first, ""));
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    let mut times = 0;
    let mut reload = |agent: &mut Agent, section: &str| {
        cluster.configure(section);
        agent.signal(Signal::HUP);
        times += 1;
        agent.wait_for("the configuration was reloaded", times);
    };
    reload(&mut agent, &section(second, ""));
    eventually("it is ready there", || status(second, "/readyz") == Some(200));
    assert_eq!(status(first, "/livez"), None);

    let taken = TcpListener::bind(("127.0.0.1", first)).unwrap();
    reload(&mut agent, &section(first, ""));
    agent.wait_for(&format!("could not listen on 127.0.0.1:{first} for HTTP"), 1);
    agent.wait_for(&format!("HTTP stays on http://127.0.0.1:{second}"), 1);
    assert_eq!(get(second, "/readyz").status, 200);
    drop(taken);

    // The same port on all addresses, where its own listener stands in the way.
    reload(&mut agent, &section(second, "").replace("127.0.0.1", "0.0.0.0"));
    agent.wait_for(&format!("HTTP is answered on http://0.0.0.0:{second}"), 1);
    assert_eq!(get(second, "/health").status, 401);
    // And where there is nothing to be had: the old one is taken up again.
    reload(&mut agent, &section(second, "").replace("127.0.0.1", "192.0.2.1"));
    agent.wait_for(&format!("could not listen on 192.0.2.1:{second}"), 1);
    assert_eq!(get(second, "/livez").status, 200);

    reload(&mut agent, "");
    agent.wait_for("HTTP is no longer answered", 1);
    assert_eq!(status(second, "/livez"), None);
    reload(&mut agent, &section(first, ""));
    assert_eq!(get(first, "/livez").status, 200);
    agent.stopped();
}

#[test]
fn a_reload_takes_another_token_or_keeps_the_old_one() {
    let port = free_port();
    let cluster = TestCluster::stopped(&section(port, "token_file = \"volume/token\"\n"));
    let write = |text: &str, mode: u32| {
        let path = cluster.scratch.write("volume/token", text);
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let code = |token: &str| ask(port, "GET", "/metrics", &format!("Authorization: Bearer {token}\r\n")).status;
    write("first", 0o400);
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    assert_eq!((code("first"), code("second")), (200, 401));
    std::fs::remove_file(cluster.scratch.join("volume/token")).unwrap();
    write("second", 0o440);
    agent.signal(Signal::HUP);
    agent.wait_for("the configuration was reloaded", 1);
    assert_eq!((code("first"), code("second")), (401, 200));
    std::fs::remove_file(cluster.scratch.join("volume/token")).unwrap();
    write("third", 0o444);
    agent.signal(Signal::HUP);
    agent.wait_for("the old configuration stays", 1);
    assert_eq!((code("second"), code("third")), (200, 401));
    agent.stopped();
}
