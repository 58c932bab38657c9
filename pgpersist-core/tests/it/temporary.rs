//! Throw-away clusters: real, isolated, quick to have, and gone however their owner ends.

use pgpersist_core::server::settings::Profile;
use pgpersist_core::temporary::cluster::{TemporaryCluster, TemporaryOptions};

use crate::support::installation::Installation;

fn options(installation: &Installation) -> TemporaryOptions {
    let mut options = TemporaryOptions::default();
    options.search.configured = Some(installation.bin.clone());
    options
}

#[tokio::test]
async fn a_cluster_answers_on_every_major_and_is_gone_with_its_handle() {
    for installation in Installation::all() {
        for profile in [Profile::Ephemeral, Profile::Durable] {
            let cluster = TemporaryCluster::start(TemporaryOptions { profile, ..options(&installation) }).await.unwrap();
            let session = cluster.session("postgres").await.unwrap();
            assert_eq!(session.version().await.unwrap(), installation.version);
            session.execute("write", "CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS n; CHECKPOINT").await.unwrap();
            assert_eq!(session.text("read", "SELECT count(*) FROM public.t").await.unwrap().unwrap(), "1000");
            let folder = cluster.folder().to_owned();
            drop(cluster);
            assert!(!folder.exists(), "{} {profile:?}", installation.version);
        }
    }
}
