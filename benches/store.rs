//! Does a large object move to and from a bucket as fast as with the AWS CLI?
//!
//!     cargo bench --package pgpersist-benches -- store --scale gib --rounds 5
//!
//! One server of S3, `s3s-fs`, the same file of random bytes (`--scale gib` is 1 GB), by turns: `aws s3 cp` with 8 concurrent
//! requests, which is `awscli` of PyPI, and `CloudBackupStore` in a process of its own, as `dump` writes and as `load` reads. What came
//! back is compared. Server and client share the machine's cores, and the CLI's start counts.
//!
//! `script/with-store-server` starts the server; it and the CLI are installed by `script/fetch-store-servers` where they are missing.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use pgpersist_core::logical::object_reader::ObjectReader;
use pgpersist_core::store::url::StoreUrl;
use pgpersist_core::store::{BackupStore, ObjectKey, open};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::measure;
use crate::support::place::{Place, run};
use crate::support::store_server::{StoreServer, installed};
use crate::support::table::{Row, markdown, times_as_fast, verdict};

/// What this program is told when it is to move an object and nothing else: `transfer put|get ADDRESS KEY FILE`.
pub(crate) const TRANSFER: &str = "transfer";

const THEIRS: &str = "aws s3 cp";
const OURS: &str = "CloudBackupStore";
/// The blocks in which a file is read and written.
const BLOCK: usize = 1 << 20;
/// What the target allows beside the parts in flight, and what these are at most, in MiB.
const MEMORY_MIB: u64 = 64;
const IN_FLIGHT_MIB: u64 = 64;

pub(crate) fn compare(arguments: &Arguments) {
    let server = StoreServer::beside("s3s-fs");
    let aws = installed("awscli", "bin/aws");
    let place = Place::of_our_own();
    let size = u64::from(arguments.scale) * 1_000_000_000 / 60;
    println!("## store\n\n{}\n{}\n", machine::describe(), machine::file_system(place.path()));
    println!("One object of {size} bytes, s3s-fs, {}.\n", run(Command::new(&aws).arg("--version").stderr(Stdio::null())).trim());
    let source = place.join("source");
    run(Command::new("sh").args(["-c", &format!("head -c {size} /dev/urandom > \"$0\"")]).arg(&source));
    let configuration = place.join("config");
    let text = "[default]\nregion = us-east-1\ns3 =\n  max_concurrent_requests = 8\n";
    File::create(&configuration).and_then(|mut file| file.write_all(text.as_bytes())).expect("the folder takes a file");
    let theirs = Theirs { aws, configuration, server: &server };

    let runtime = Runtime::new().expect("threads can be made");
    let store = open::open(&StoreUrl::Cloud(server.url.clone())).expect("the address is good");
    let (mut puts, mut gets) = ([THEIRS, OURS].map(Row::new), [THEIRS, OURS].map(Row::new));
    for round in 0..arguments.rounds(5) {
        for (put, get) in puts.iter_mut().zip(&mut gets) {
            let key: ObjectKey = format!("object-{round}-{}", put.name.replace(' ', "-")).parse().expect("it is a name");
            let target = place.join("target");
            for (verb, row, file) in [("put", put, &source), ("get", get, &target)] {
                let mut transfer = if row.name == THEIRS { theirs.transfer(verb, &key, file) } else { ours(&server, verb, &key, file) };
                let cost = measure(&mut transfer, Some(server.pid));
                eprintln!("round {}: {verb} by {}: {:.2} s", round + 1, row.name, cost.wall.as_secs_f64());
                row.costs.push(cost);
            }
            run(Command::new("cmp").arg(&source).arg(&target));
            std::fs::remove_file(&target).expect("it was written just now");
            runtime.block_on(store.delete(&key)).expect("it is deleted");
        }
    }
    for (verb, rows) in [("put", &puts), ("get", &gets)] {
        println!("### {verb}\n\n{}", markdown(rows));
        let [theirs, ours] = rows;
        println!("| compared with | target | medians | minima |\n|---|---|---|---|");
        println!("{}", verdict(theirs.name, 0.9, times_as_fast(ours, theirs)));
        let peak = ours.costs.iter().map(|cost| cost.largest_bytes).max().unwrap_or(0) >> 20;
        let most = MEMORY_MIB + IN_FLIGHT_MIB;
        let met = if peak <= most { "met" } else { "missed" };
        println!("Memory: {peak} MiB at most (target ≤ {MEMORY_MIB} MiB and {IN_FLIGHT_MIB} MiB of parts in flight: {met}).\n");
    }
}

/// The AWS CLI.
struct Theirs<'a> {
    aws: PathBuf,
    configuration: PathBuf,
    server: &'a StoreServer,
}

impl Theirs<'_> {
    fn transfer(&self, verb: &str, key: &ObjectKey, file: &Path) -> Command {
        let url = &self.server.url;
        let object = format!("s3://{}/{}/{key}", url.bucket(), url.prefix());
        let mut aws = Command::new(&self.aws);
        aws.env("AWS_CONFIG_FILE", &self.configuration).env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
        aws.args(["--endpoint-url", url.endpoint().expect("the server has an address"), "s3", "cp", "--only-show-errors"]);
        if verb == "put" {
            aws.arg(file).arg(object)
        } else {
            aws.arg(object).arg(file)
        };
        aws
    }
}

fn ours(server: &StoreServer, verb: &str, key: &ObjectKey, file: &Path) -> Command {
    let mut ours = Command::new(std::env::current_exe().expect("the kernel knows this program"));
    ours.args([TRANSFER, verb, &server.url.to_string(), key.as_str()]).arg(file).stdin(Stdio::null());
    ours
}

/// Moves one object: what [`compare`] measures.
pub(crate) fn transfer(words: &[String]) {
    let [verb, url, key, file] = words else { panic!("{TRANSFER} put|get ADDRESS KEY FILE") };
    let url: StoreUrl = url.parse().unwrap_or_else(|e| panic!("{url} is no address: {e}"));
    let key: ObjectKey = key.parse().expect("it is a name");
    let store = open::open(&url).unwrap_or_else(|e| panic!("{url}: {e}"));
    let runtime = Runtime::new().expect("threads can be made");
    runtime.block_on(async { if verb == "put" { put(&store, &key, file).await } else { get(&store, key, file).await } });
}

async fn put(store: &Arc<dyn BackupStore>, key: &ObjectKey, file: &str) {
    let file = File::open(file).expect("the file is there");
    let (send, mut blocks) = mpsc::channel::<Bytes>(4);
    let reader = thread::spawn(move || {
        loop {
            let mut block = Vec::with_capacity(BLOCK);
            if (&file).take(BLOCK as u64).read_to_end(&mut block).expect("the file can be read") == 0 {
                break;
            }
            if send.blocking_send(block.into()).is_err() {
                break;
            }
        }
    });
    let mut upload = store.upload(key).await.unwrap_or_else(|e| panic!("{key}: {e}"));
    while let Some(block) = blocks.recv().await {
        upload.write(block).await.unwrap_or_else(|e| panic!("{key}: {e}"));
    }
    upload.finish().await.unwrap_or_else(|e| panic!("{key}: {e}"));
    reader.join().expect("the reader does not panic");
}

async fn get(store: &Arc<dyn BackupStore>, key: ObjectKey, file: &str) {
    let mut file = File::create(file).expect("the folder takes a file");
    let size = store.head(&key).await.unwrap_or_else(|e| panic!("{key}: {e}")).size_bytes;
    let mut object = ObjectReader::open(Arc::clone(store), key, size);
    let written = tokio::task::spawn_blocking(move || {
        let mut block = vec![0; BLOCK];
        let mut written = 0;
        loop {
            let length = object.read(&mut block).unwrap_or_else(|e| panic!("the object cannot be read: {e}"));
            if length == 0 {
                return written;
            }
            file.write_all(&block[..length]).expect("the disk has room");
            written += length as u64;
        }
    });
    assert_eq!(written.await.expect("the writer does not panic"), size);
}
