//! What `store check` says of servers of which it is known what they do, and of a server's clock.

use futures_util::future::join_all;
use pgpersist_core::progress::Silent;
use pgpersist_core::store::check::report::{CheckReport, Fitness};
use pgpersist_core::store::check::run::{CheckOptions, check};
use pgpersist_core::store::observation::{Observation, Standing};

use crate::clouds::{Store, everything, key, opened, through};
use crate::support::stores::proxy::faults::{Choice, Fault, Rule};
use crate::support::stores::rclone::Rclone;
use crate::support::stores::{Protocol, StoreServer, azurite, gcs, moto, s3rver, s3s};

use Standing::{Fail, Pass, Warn};

/// More than one range, and more than one part.
const THROUGHPUT: u64 = 9 << 20;

/// What everybody is told of, in this order; of S3 two things more stand before the last.
const FINDINGS: [&str; 12] = [
    "objects",
    "ranges",
    "listing",
    "uploads",
    "names",
    "races",
    "deletion",
    "conditional_put",
    "conditional_upload",
    "checksum",
    "clock",
    "leftovers",
];

/// A server and what is known of it.
struct Known {
    name: &'static str,
    server: Option<StoreServer>,
    fitness: Fitness,
    findings: &'static [(&'static str, Standing)],
    /// Whether nothing else is wrong. Of a server that is not to be used it may be chance what else is seen.
    is_all: bool,
}

impl Known {
    async fn hold(self, options: &str) {
        let Self { name, server, fitness, findings, is_all } = self;
        let Some(server) = server else { return };
        let report = checked(&opened(&format!("{}{options}", server.url("prefix"))), Some(THROUGHPUT)).await;
        assert_eq!(report.fitness, fitness, "{name}: {report:?}");
        for (finding, status) in findings {
            assert_eq!(found(&report, finding).status, *status, "{name}: {finding} in {report:?}");
        }
        let mut names = FINDINGS.to_vec();
        if server.protocol == Protocol::S3 {
            names.insert(11, "object_lock");
            names.insert(11, "versioning");
        }
        assert_eq!(report.findings.iter().map(|finding| finding.name).collect::<Vec<_>>(), names, "{name}");
        for finding in &report.findings {
            // Only what is wrong has a way out, and each of that.
            assert_eq!(finding.remedy.is_some(), finding.status >= Warn, "{name}: {finding:?}");
            let is_known = findings.iter().any(|(known, _)| *known == finding.name);
            assert!(!is_all || is_known || finding.status < Warn, "{name}: {finding:?}");
        }
        // A server that gives more than it is asked for cannot be measured, which does not keep it from being judged.
        assert!(if is_all { report.throughput.is_some() } else { name != RCLONE || report.throughput.is_none() }, "{name}: {report:?}");
        assert!(report.latency_s.put > 0.0 && report.latency_s.get > 0.0, "{name}: {:?}", report.latency_s);
    }
}

const RCLONE: &str = "rclone serve s3";

async fn checked(store: &Store, throughput_bytes: Option<u64>) -> CheckReport {
    let report = check(store, &CheckOptions { throughput_bytes }, &Silent).await;
    report.unwrap_or_else(|error| panic!("{store}: {}", everything(&error)))
}

fn found<'a>(report: &'a CheckReport, name: &str) -> &'a Observation {
    report.findings.iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("no {name} in {report:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_that_can_be_used_are_told_to_be_so() {
    let known = [
        Known { name: "Google", server: gcs::start(), fitness: Fitness::Good, findings: &[("checksum", Pass)], is_all: true },
        // It holds what is written against its MD5.
        Known { name: "azurite", server: azurite::start(), fitness: Fitness::Good, findings: &[("checksum", Pass)], is_all: true },
        // It keeps the checksum that it is told, and never computes one.
        Known { name: "moto", server: moto::start(), fitness: Fitness::Weak, findings: &[("checksum", Warn)], is_all: true },
    ];
    join_all(known.map(|known| known.hold(""))).await;
}

/// They are told for what they are, with what is wrong, and the check of each comes to an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_that_are_not_to_be_used_are_told_to_be_so() {
    let known = [
        Known {
            name: "s3s-fs",
            server: s3s::start(),
            fitness: Fitness::Unfit,
            // Its keys are paths: one that is a folder of others is neither missing nor deleted, but an internal error. Conditions
            // are looked at before it writes, so of several at the same moment more than one may win.
            findings: &[
                ("objects", Fail),
                ("ranges", Pass),
                ("listing", Pass),
                ("names", Pass),
                ("deletion", Fail),
                ("conditional_put", Pass),
                ("conditional_upload", Pass),
                ("checksum", Pass),
                ("clock", Pass),
            ],
            is_all: false,
        },
        Known {
            name: "s3rver",
            server: s3rver::start(),
            fitness: Fitness::Unfit,
            // Its lists are in the order of files, in which a folder comes before all that begins with its name. It looks at no
            // condition where something is written, and at no checksum.
            findings: &[
                ("listing", Fail),
                ("names", Pass),
                ("conditional_put", Warn),
                ("conditional_upload", Warn),
                ("checksum", Warn),
                ("clock", Pass),
            ],
            is_all: false,
        },
        Known {
            name: RCLONE,
            server: Rclone::find().map(|rclone| rclone.serve_s3()),
            fitness: Fitness::Unfit,
            // It gives all of an object where a part is asked for, and knows of checksums MD5 alone.
            findings: &[
                ("ranges", Fail),
                ("names", Pass),
                ("conditional_put", Warn),
                ("conditional_upload", Warn),
                ("checksum", Warn),
                ("clock", Pass),
            ],
            is_all: false,
        },
    ];
    // Internal errors are asked about again until the deadline.
    join_all(known.map(|known| known.hold("&deadline=8s"))).await;
}

/// The way of an answer makes its clock look later, never earlier: each limit is met from the side on which that does no harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_that_differs_is_told() {
    let Some(server) = gcs::start() else { return };
    let (store, proxy) = through(&server, "prefix", "");
    let set = |seconds| proxy.rule(vec![Rule::new(|_| true, Choice::All, Fault::ClockAhead { seconds })]);
    for (seconds, status, told) in [(29, Pass, "this machine's clock"), (-31, Warn, "s ahead of"), (299, Warn, "s behind")] {
        set(seconds);
        let observed = store.observe(&key(&format!("observed/{seconds}"))).await.unwrap();
        let clock = observed.iter().find(|observation| observation.name == "clock").unwrap();
        assert!(clock.status == status && clock.summary.contains(told), "{seconds}: {clock:?}");
        assert_eq!(clock.remedy.as_deref().is_some_and(|remedy| remedy.contains("set the clock")), status == Warn, "{clock:?}");
    }
    // Five minutes, and signatures do not hold any more: whatever else it does, such a store is of no use.
    set(-301);
    let report = checked(&store, None).await;
    assert_eq!(report.fitness, Fitness::Unfit, "{report:?}");
    let wrong: Vec<_> = report.findings.iter().filter(|finding| finding.status >= Warn).map(|finding| finding.name).collect();
    assert_eq!((wrong, found(&report, "clock").status), (vec!["clock"], Fail), "{report:?}");
    assert!(found(&report, "clock").summary.contains("s ahead of"), "{report:?}");
}
