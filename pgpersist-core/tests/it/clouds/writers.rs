//! Credentials that may neither delete nor replace an object, as they are on Google where they may not delete.

use bytes::Bytes;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::progress::Silent;
use pgpersist_core::store::check::report::Fitness;
use pgpersist_core::store::check::run::{CheckOptions, check};
use pgpersist_core::store::observation::Standing;

use crate::clouds::{key, opened, pattern, through, upload};
use crate::support::stores::gcs;
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_that_is_taken_is_a_conflict_and_a_replacement_is_denied() {
    let Some(server) = gcs::start() else { return };
    gcs::may_delete(&server, false);
    let store = opened(&server.url("prefix"));
    let large = pattern(17 << 20);
    store.put(&key("note"), "first".into()).await.unwrap();
    assert_eq!(store.put(&key("note"), "first".into()).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(store.delete(&key("note")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(store.honours_conditions(&key("note"), "lost".into()).await.unwrap(), None);
    upload(&store, "large", &large).await.unwrap();
    assert!(store.get(&key("large")).await.unwrap() == large);
    // A name that is taken while an upload is under way, and not seen to be: the server asks for the right before the condition.
    let (through_proxy, proxy) = through(&server, "prefix", "");
    for (name, bytes) in [("small, late", Bytes::from("ours")), ("large, late", large)] {
        let mut late = through_proxy.upload(&key(name)).await.unwrap();
        late.write(bytes).await.unwrap();
        store.put_if_absent(&key(name), "theirs".into()).await.unwrap();
        // A small object's name is not looked at again, a large one's just before its end.
        if name == "large, late" {
            proxy.rule(vec![Rule::new(|request| request.method == "HEAD", Choice::First(1), Fault::Refuse { status: 404, code: "" })]);
        }
        assert_eq!(late.finish().await.unwrap_err().kind(), ErrorKind::Conflict, "{name}");
        assert_eq!(store.get(&key(name)).await.unwrap(), "theirs");
    }
}

/// Its repetition would replace what its first attempt has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_note_whose_answer_was_lost_is_written() {
    let Some(server) = gcs::start() else { return };
    gcs::may_delete(&server, false);
    let (store, proxy) = through(&server, "prefix", "");
    proxy.rule(vec![Rule::new(Request::is_put, Choice::First(1), Fault::LostAnswer)]);
    store.put(&key("note"), "ours".into()).await.unwrap();
    assert_eq!(proxy.hits(), 1);
    assert_eq!(store.get(&key("note")).await.unwrap(), "ours");
    // What somebody else has written is not taken for it.
    assert_eq!(store.put(&key("note"), "ours".into()).await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_check_tells_what_they_may_not_and_that_the_store_can_be_used() {
    let Some(server) = gcs::start() else { return };
    gcs::may_delete(&server, false);
    let report = check(&opened(&server.url("prefix")), &CheckOptions { throughput_bytes: None }, &Silent).await.unwrap();
    assert_eq!(report.fitness, Fitness::Weak, "{report:?}");
    let found = |name: &str| report.findings.iter().find(|finding| finding.name == name).unwrap();
    assert!(found("deletion").summary.contains("cannot delete, nor replace: "), "{report:?}");
    for (name, status) in [("objects", Standing::Pass), ("races", Standing::Pass), ("conditional_put", Standing::Unknown)] {
        assert_eq!(found(name).status, status, "{report:?}");
    }
}
