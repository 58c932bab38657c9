//! How long does a test wait for a database of its own?
//!
//!     cargo bench --package pgpersist-benches -- temporary_cluster --rounds 20
//!
//! From nothing to the answer of the first query, with a warm template: [`TemporaryCluster`] against `initdb`, `pg_ctl` and
//! `createdb`, and against `cp -a` of a template with `postgres` started directly, all with the same driver, fsync off, the
//! same disk, in turn. Then the next database on a server that runs already.
//!
//! Everything lies in `TMPDIR`, and the file system there decides most of it: making a cluster is making a thousand files. An
//! ext4 without a journal avoids inodes that were freed in the last minutes, so creating files soon after thousands were
//! deleted, as this bench does each round, takes several times as long there. Its figures are those of that file system.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::arguments::Arguments;
use crate::support::machine;
use crate::support::measure::Cost;
use crate::support::place::{Place, command, run};
use crate::support::server::bin_directory;
use crate::support::table::{Row, markdown, median, times_as_fast, verdict};
use pgpersist_core::server::connection::{ConnectionOptions, Host};
use pgpersist_core::server::session::Session;
use pgpersist_core::temporary::cluster::{TemporaryCluster, TemporaryOptions};
use rustix::process::{Pid, Signal, kill_process};

const INITDB: &str = "initdb --no-sync + pg_ctl -w start + createdb";
const COPY: &str = "cp -a of a template + postgres + poll each 2 ms";
const OURS: &str = "TemporaryCluster";
const CREATEDB: &str = "createdb on a running server";
const NEXT: &str = "TemporaryCluster::create_database";

const PATIENCE: Duration = Duration::from_secs(60);
/// What keeps a server off its defaults wherever it is started by hand.
const SETTINGS: &str = "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off";

pub(crate) fn compare(arguments: &Arguments) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(arguments));
}

async fn measure(arguments: &Arguments) {
    let place = Place::new();
    // Root takes templates from nobody else.
    let cache = Place::of_our_own();
    println!("## temporary cluster\n\n{}\n{}\n", machine::describe(), machine::file_system(place.path()));
    let template = place.join("template");
    initdb(&template);
    let options =
        || TemporaryOptions { parent: Some(place.path().to_owned()), cache: Some(cache.join("templates")), ..TemporaryOptions::default() };
    // Makes the template: warm is what is measured.
    TemporaryCluster::start(options()).await.expect("a cluster starts").stop().await.expect("and stops");

    let mut rows = [INITDB, COPY, OURS].map(Row::new);
    for round in 0..arguments.rounds(15) {
        for row in &mut rows {
            let wall = match row.name {
                INITDB => by_initdb(&place.join(&format!("initdb-{round}"))).await,
                COPY => by_copy(&template, &place.join(&format!("copy-{round}"))).await,
                _ => {
                    let began = Instant::now();
                    let cluster = TemporaryCluster::start(options()).await.expect("a cluster starts");
                    let session = cluster.session("postgres").await.expect("it lets us in");
                    answer(&session).await;
                    let wall = began.elapsed();
                    drop(session);
                    cluster.stop().await.expect("it stops");
                    wall
                }
            };
            row.costs.push(Cost { wall, ..Cost::default() });
        }
    }
    let mut databases = [CREATEDB, NEXT].map(Row::new);
    let cluster = TemporaryCluster::start(options()).await.expect("a cluster starts");
    for round in 0..arguments.rounds(15) {
        for row in &mut databases {
            let name = format!("{}{round}", if row.name == NEXT { "next" } else { "created" });
            let began = Instant::now();
            if row.name == NEXT {
                cluster.create_database(&name, None).await.expect("it makes a database");
            } else {
                let mut createdb = command(bin_directory().join("createdb"));
                let connection = cluster.connection("postgres");
                createdb.args(["-h", &connection.host.as_text(), "-p", &connection.port.to_string(), "-U", &connection.user]);
                run(createdb.arg(&name));
            }
            answer(&cluster.session(&name).await.expect("it lets us in")).await;
            row.costs.push(Cost { wall: began.elapsed(), ..Cost::default() });
        }
    }
    cluster.stop().await.expect("it stops");

    let [initdb, copy, ours] = &rows;
    print!("{}", markdown(&rows));
    print!("\n{}", markdown(&databases));
    println!("\n| compared with | target | medians | minima |\n|---|---|---|---|");
    print!("{}", verdict(initdb.name, 1.0 / 0.15, times_as_fast(ours, initdb)));
    print!("{}", verdict(copy.name, 1.0 / 0.7, times_as_fast(ours, copy)));
    let next = databases[1].walls();
    println!("\nNext database: {:.0} ms (target ≤ 50).", median(&next) * 1000.0);
}

async fn by_initdb(data: &Path) -> Duration {
    let began = Instant::now();
    initdb(data);
    let mut start = command(bin_directory().join("pg_ctl"));
    start.arg("-D").arg(data).args(["-w", "-l"]).arg(data.join("log")).arg("-o").arg(format!("{SETTINGS} -k {}", data.display()));
    // Not `run`: the server would hold the pipe of pg_ctl's output open.
    assert!(start.arg("start").stdout(Stdio::null()).stderr(Stdio::null()).status().expect("pg_ctl runs").success());
    run(command(bin_directory().join("createdb")).args(["-U", "postgres", "test", "-h"]).arg(data));
    answer(&Session::connect(&connection(data, "test"), PATIENCE).await.expect("it lets us in")).await;
    let wall = began.elapsed();
    run(command(bin_directory().join("pg_ctl")).arg("-D").arg(data).args(["-w", "-m", "immediate", "stop"]));
    run(command("rm").arg("-rf").arg(data));
    wall
}

async fn by_copy(template: &Path, data: &Path) -> Duration {
    let began = Instant::now();
    run(command("cp").arg("-a").arg(template).arg(data));
    let mut postgres = command(bin_directory().join("postgres"));
    postgres.arg("-D").arg(data).args(SETTINGS.split(' ')).arg("-k").arg(data).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Direct(postgres.spawn().expect("postgres runs"));
    let session = loop {
        match Session::connect(&connection(data, "postgres"), PATIENCE).await {
            Ok(session) => break session,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    answer(&session).await;
    let wall = began.elapsed();
    drop((session, server));
    run(command("rm").arg("-rf").arg(data));
    wall
}

/// A server that ends with its handle.
struct Direct(Child);

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::QUIT);
        let _ = self.0.wait();
    }
}

fn initdb(data: &Path) {
    let mut initdb = command(bin_directory().join("initdb"));
    run(initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--locale=C.UTF-8", "-D"]).arg(data));
}

fn connection(socket: &Path, database: &str) -> ConnectionOptions {
    let host = Host::Socket(PathBuf::from(socket));
    ConnectionOptions { host, port: 5432, user: "postgres".to_owned(), database: database.to_owned(), password: None, os_user: None }
}

async fn answer(session: &Session) {
    assert_eq!(session.text("ask", "SELECT 1").await.expect("it answers").as_deref(), Some("1"));
}
