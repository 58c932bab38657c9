//! What opens a store: it is told nowhere, and what is missing or wrong about it is told with a way out.

use std::process::Command;

use crate::clouds::{environment, keeps_secrets, one_of_each, run_with};
use crate::run::clock;
use crate::support::cluster::TestCluster;
use crate::support::scratch::Scratch;
use crate::support::stores::{ACCESS_KEY, ACCOUNT_KEY, PRIVATE_KEY, Protocol, SECRET_KEY, s3s};

/// Every way in which the program tells something, and the arguments of every program that it runs.
#[test]
fn credentials_are_told_nowhere() {
    let servers = one_of_each();
    if servers.is_empty() {
        return;
    }
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE DATABASE shop");
    cluster.fill("shop");
    for server in &servers {
        let url = server.bare_url_at(&server.endpoint(), "prefix");
        for arguments in [
            &["dump", "--verbose"] as &[&str],
            &["dump", "--json"],
            &["list"],
            &["list", "--json"],
            &["verify", "--verbose"],
            &["verify", "--json"],
            &["config", "show"],
            &["config", "show", "--json"],
            &["health"],
            &["health", "--json"],
            &["load", "latest", "-d", "shop", "--dry-run"],
            &["prune", "--keep-last", "1", "--dry-run", "--json"],
        ] {
            run_with(&cluster.scratch, server, &url, arguments);
        }
        // Wrong ones, and a bucket that is not there.
        for (name, _) in environment(server) {
            let wrong = if server.protocol == Protocol::Gcs { "/no/such/file/hunter2" } else { "aHVudGVyMg==" };
            let environment: Vec<(&str, String)> = environment(server)
                .into_iter()
                .map(|(other, value)| (other, if other == name { wrong.to_owned() } else { value }))
                .collect();
            let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            for json in [&["list"] as &[&str], &["list", "--json"]] {
                let run = cluster.scratch.run(&[json, &["--store", &url]].concat(), &environment);
                assert_ne!(run.code, Some(0), "{run:?}");
                keeps_secrets(&run);
                assert!(!format!("{run:?}").contains("aHVudGVyMg=="), "{run:?}");
            }
        }
        let elsewhere = url.replace("pgpersist-tests", "no-such-bucket");
        run_with(&cluster.scratch, server, &elsewhere, &["list"]).refused(2, &["no-such-bucket"]);

        let trace = cluster.scratch.join("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-s", "100000", "-e", "trace=execve", "-o"]).arg(&trace);
        strace.arg(env!("CARGO_BIN_EXE_pgpersist"));
        cluster.scratch.prepare(&mut strace);
        strace.envs(environment(server));
        keeps_secrets(&cluster.scratch.finish(strace, &["dump", "--store", &url], &[]).done());
        let trace = std::fs::read_to_string(&trace).unwrap();
        assert!(trace.contains("pg_dump"), "{trace}");
        for secret in [ACCESS_KEY, SECRET_KEY, ACCOUNT_KEY, PRIVATE_KEY] {
            assert!(!trace.contains(secret), "{secret} is an argument of a program");
        }
    }
}

/// A machine that has no credentials anywhere: that is told soon, and where they could come from.
#[test]
fn without_credentials_it_is_told_where_they_come_from() {
    let scratch = Scratch::new();
    for (url, variable) in [
        ("s3://bucket/prefix?region=us-east-1&deadline=10s", "AWS_ACCESS_KEY_ID"),
        ("gs://bucket/prefix?deadline=10s", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://container/prefix?account=acme&deadline=10s", "AZURE_STORAGE_ACCOUNT_KEY"),
    ] {
        let begun = std::time::Instant::now();
        let run = scratch.run(&["list", "--store", url], &[]);
        assert!(begun.elapsed().as_secs() < 60, "{url} took {:?}", begun.elapsed());
        run.refused(1, &[variable, "  remedy: "]);
    }
}

/// Credentials of files: those that AWS's tools use, by a profile of the environment or of the address.
#[test]
fn a_profile_opens_the_bucket() {
    let Some(server) = s3s::start() else { return };
    let scratch = Scratch::new();
    let keys = format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    scratch.write("credentials", &format!("[default]\naws_access_key_id = OTHER\naws_secret_access_key = OTHER\n[team]\n{keys}"));
    let url = server.bare_url_at(&server.endpoint(), "prefix");
    // By its variable: who is root becomes the cluster's user, whose home is another.
    let file = ("AWS_SHARED_CREDENTIALS_FILE", "{dir}/credentials");
    scratch.run(&["list", "--store", &url], &[file]).refused(1, &["does not know these credentials"]);
    scratch.run(&["list", "--store", &url], &[file, ("AWS_PROFILE", "team")]).done();
    scratch.run(&["list", "--store", &format!("{url}&profile=team")], &[file]).done();
    scratch.run(&["list", "--store", &format!("{url}&profile=team&credentials_file={{dir}}/credentials")], &[]).done();
    let run = scratch.run(&["list", "--store", &format!("{url}&profile=nobody")], &[file]);
    keeps_secrets(run.refused(4, &["`nobody`", "  remedy: "]));
}

/// A machine whose clock is wrong: the server refuses what was signed then, and the clock is named.
#[test]
fn a_clock_that_is_wrong_is_told() {
    let Some(server) = s3s::start() else { return };
    let library = clock::library();
    let scratch = Scratch::new();
    let url = server.bare_url_at(&server.endpoint(), "prefix");
    let own = environment(&server);
    let mut environment: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    environment.extend([("LD_PRELOAD", library.to_str().unwrap()), ("FAKETIME", "-3h"), ("FAKETIME_DISABLE_SHM", "1")]);
    // As the user from the beginning: what the library makes for root, the user whom it becomes could not open.
    let run = scratch.run_as_user(&["list", "--store", &url], &environment);
    keeps_secrets(run.refused(1, &["set this machine's clock"]));
}
