//! A store that keeps what is written: a prune tells what stays and until when, drops the rest, and ends well.

use crate::clouds::run_with;
use crate::support::scratch::Scratch;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::proxy::{Proxy, Request};
use crate::support::stores::{BUCKET, gcs};

#[test]
fn a_prune_keeps_what_is_locked_and_ends_well() {
    let Some(server) = gcs::start() else { return };
    for day in 1..=3 {
        let target = format!("/{BUCKET}/prefix/shop/backup_2026010{day}_000000.sql.gz");
        let answer = server.plain("PUT", &target, &[], "a dump of long ago, too large for an empty one");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let proxy = Proxy::before(server.port(), 0);
    let locked = Fault::Say {
        status: 403,
        code: "AccessDenied",
        message: "Object 'b/o' is subject to bucket's retention policy or object retention and cannot be deleted or overwritten until \
                  2999-01-02T03:04:05Z",
    };
    let is_locked = |request: &Request| request.is_delete() && request.target.contains("backup_20260101");
    proxy.rule(vec![Rule::new(is_locked, Choice::All, locked)]);
    let scratch = Scratch::new();
    let url = server.bare_url_at(&proxy.endpoint(), "prefix");
    let prune = |more: &[&str]| run_with(&scratch, &server, &url, &[&["prune", "--keep-last", "1", "--yes"], more].concat()).done();
    let pruned = prune(&["--json"]).json();
    assert_eq!(pruned["dropped"].as_array().unwrap().len(), 1, "{pruned}");
    let kept = pruned["kept"].as_array().unwrap();
    assert!(kept.iter().any(|kept| kept["reason"] == "locked in the store until 2999-01-02T03:04:05Z"), "{pruned}");
    assert_eq!(pruned["unfinished_uploads"], 0);
    let told = prune(&[]).stdout;
    assert!(told.contains("keep  shop/backup_20260101_000000.sql.gz  locked in the store until 2999-01-02T03:04:05Z\n"), "{told}");
}
