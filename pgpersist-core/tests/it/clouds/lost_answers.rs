//! A change that came through while its answer was lost: the writer knows its own work again, and nobody else's.

use bytes::Bytes;
use pgpersist_core::error::ErrorKind;

use crate::clouds::{key, keys, one_of_each, opened, pattern, through, upload};
use crate::support::stores::proxy::Request;
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_ours_is_known_again() {
    for server in one_of_each() {
        let (store, proxy) = through(&server, "ours", "");
        let lost = |fits: fn(&Request) -> bool| vec![Rule::new(fits, Choice::First(1), Fault::LostAnswer)];
        let large = pattern(17 << 20);

        proxy.rule(lost(Request::is_put));
        store.put_if_absent(&key("small"), "ours".into()).await.unwrap();
        assert_eq!(proxy.hits(), 1, "{:?}", server.protocol);
        proxy.rule(lost(Request::is_put));
        upload(&store, "small upload", &Bytes::from("ours")).await.unwrap();
        assert_eq!(proxy.hits(), 2, "{:?}", server.protocol);
        proxy.rule(lost(Request::is_end_of_upload));
        upload(&store, "large", &large).await.unwrap();
        assert_eq!(proxy.hits(), 3, "{:?}", server.protocol);
        // Where an upload gets its name by a copy, that is a put as well.
        proxy.rule(lost(Request::is_put));
        upload(&store, "large again", &large).await.unwrap();

        proxy.rule(Vec::new());
        assert_eq!(keys(&store).await.unwrap(), ["large", "large again", "small", "small upload"]);
        assert!(store.get(&key("large")).await.unwrap() == large && store.get(&key("large again")).await.unwrap() == large);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_somebody_elses_is_not_taken_for_ours() {
    for server in one_of_each() {
        let (store, proxy) = through(&server, "ours", "");
        let direct = opened(&server.url("ours"));
        let large = pattern(17 << 20);
        // Somebody else takes the name between our look at it and our request, whose first attempt does not even arrive.
        for (name, bytes) in [("small", Bytes::from("ours")), ("large", large)] {
            let mut upload = store.upload(&key(name)).await.unwrap();
            upload.write(bytes).await.unwrap();
            direct.put_if_absent(&key(name), "theirs".into()).await.unwrap();
            // Whether the name is free is not seen any more.
            proxy.rule(vec![
                Rule::new(|request| request.method == "HEAD", Choice::First(1), Fault::Refuse { status: 404, code: "" }),
                Rule::new(|request| request.is_put() || request.is_end_of_upload(), Choice::First(1), Fault::Reset),
            ]);
            assert_eq!(upload.finish().await.unwrap_err().kind(), ErrorKind::Conflict, "{:?} {name}", server.protocol);
            assert_eq!(direct.get(&key(name)).await.unwrap(), "theirs");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_delete_whose_answer_was_lost_has_deleted() {
    for server in one_of_each() {
        let (store, proxy) = through(&server, "ours", "");
        store.put(&key("object"), "bytes".into()).await.unwrap();
        proxy.rule(vec![Rule::new(Request::is_delete, Choice::First(1), Fault::LostAnswer)]);
        store.delete(&key("object")).await.unwrap();
        assert_eq!(proxy.hits(), 1);
        assert!(keys(&store).await.unwrap().is_empty());
    }
}
