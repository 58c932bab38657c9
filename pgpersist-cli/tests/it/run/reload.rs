//! SIGHUP: the configuration of both, or the old one.

use rustix::process::Signal;

use crate::run::{Agent, eventually};
use crate::support::cluster::TestCluster;

#[test]
fn a_reload_takes_what_is_right_and_keeps_the_old_one_else() {
    let cluster = TestCluster::stopped("");
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    let postmaster = cluster.postmaster();
    let work_mem = || cluster.sql("postgres", "SHOW work_mem");
    let reload = |agent: &mut Agent, settings: &str, told: &str, times: usize| {
        let text = crate::support::cluster::CONFIGURATION.replace("[cluster.settings]\n", &format!("[cluster.settings]\n{settings}\n"));
        cluster.scratch.write("pgpersist.toml", &text);
        agent.signal(Signal::HUP);
        agent.wait_for(told, times);
    };
    reload(&mut agent, "work_mem = \"7MB\"", "the configuration was reloaded", 1);
    eventually("the server took it", || work_mem() == "7MB");
    // One that we do not understand, and one that the server does not.
    reload(&mut agent, "no equals sign", "the old configuration stays", 1);
    reload(&mut agent, "work_mem = \"lots\"", "the old configuration stays", 2);
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    assert_eq!(work_mem(), "7MB");
    reload(&mut agent, "work_mem = \"8MB\"", "the configuration was reloaded", 2);
    eventually("the server took it", || work_mem() == "8MB");
    assert_eq!(cluster.postmaster(), postmaster);
    agent.stopped();
}
