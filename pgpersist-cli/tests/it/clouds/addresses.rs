//! How a bucket is addressed: in the name of the host or in the path, at Amazon's own servers or at another one that the address or the
//! environment names.

use crate::clouds::environment;
use crate::support::outside::{AUTHORITY, Outside, Reply};
use crate::support::scratch::{Run, Scratch};
use crate::support::stores::proxy::Proxy;
use crate::support::stores::{BUCKET, moto, s3s};

const REGION: &str = "eu-central-1";

/// Amazon's own servers, before one that has the bucket in its path.
fn amazon(port: u16) -> Outside {
    let of_bucket = format!("{BUCKET}.s3.{REGION}.amazonaws.com");
    Outside::start(move |asked| {
        let target = if asked.host == of_bucket { format!("/{BUCKET}{}", asked.target) } else { asked.target.clone() };
        Reply::From { port, target }
    })
}

/// Asks a store for all that is asked of one, also for what is asked about its bucket as a whole.
#[track_caller]
fn check(scratch: &Scratch, url: &str, environment: &[(&str, String)]) {
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let checked: Run = scratch.run(&["store", "check", "--no-throughput", "--json", "--store", url], &environment);
    assert!(matches!(checked.code, Some(0 | 3)) && checked.json()["fitness"] != "unfit", "{checked:?}");
}

#[test]
fn the_bucket_stands_in_the_hosts_name_unless_it_is_to_stand_in_the_path() {
    let Some(server) = moto::start() else { return };
    let scratch = Scratch::new();
    scratch.write("ca.pem", AUTHORITY);
    let in_path = format!("/{BUCKET}");
    for (option, host) in [
        ("", format!("{BUCKET}.s3.{REGION}.amazonaws.com")),
        ("&path_style=false", format!("{BUCKET}.s3.{REGION}.amazonaws.com")),
        ("&path_style=true", format!("s3.{REGION}.amazonaws.com")),
    ] {
        let outside = amazon(server.port());
        let own = [environment(&server), outside.environment()].concat();
        check(&scratch, &format!("s3://{BUCKET}/prefix?region={REGION}&ca_file={{dir}}/ca.pem{option}"), &own);
        let asked = outside.asked();
        assert!(asked.iter().any(|asked| asked.value("list-type").is_some()), "{option}: nothing was listed");
        assert!(asked.iter().any(|asked| asked.target.contains("?versioning")), "{option}: the bucket was not asked for its versions");
        for asked in asked {
            assert!(asked.is_encrypted && asked.host == host, "{option}: {} {} {}", asked.host, asked.method, asked.target);
            assert_eq!(asked.path().starts_with(&in_path), option == "&path_style=true", "{option}: {} {}", asked.method, asked.target);
        }
    }
}

/// The bucket before the name of another server, which is reached through a proxy, since nothing tells its address.
#[test]
fn another_server_has_a_name_for_each_bucket_where_it_is_said() {
    let Some(server) = moto::start() else { return };
    let scratch = Scratch::new();
    let port = server.port();
    let outside = Outside::start(move |asked| Reply::From { port, target: format!("/{BUCKET}{}", asked.target) });
    let own = [environment(&server), outside.environment()].concat();
    let url = format!("s3://{BUCKET}/prefix?region={REGION}&endpoint=http://objects.example.com:9000&allow_http=true&path_style=false");
    check(&scratch, &url, &own);
    let asked = outside.asked();
    assert!(!asked.is_empty());
    for asked in asked {
        assert_eq!(asked.host, format!("{BUCKET}.objects.example.com:9000"), "{} {}", asked.method, asked.target);
    }
}

/// The server that AWS's own tools are told, unless the address names one.
#[test]
fn the_environment_names_the_server() {
    let Some(server) = s3s::start() else { return };
    let scratch = Scratch::new();
    let keys = environment(&server);
    let list = |url: &str, named: &[(&'static str, String)]| {
        let own = [keys.as_slice(), named].concat();
        let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        scratch.run(&["list", "--store", url], &own)
    };
    let bare = format!("s3://{BUCKET}/prefix?region={REGION}");
    let nowhere = || "http://127.0.0.1:1".to_owned();
    for case in ["for all of Amazon's services", "for S3 before the others", "by the address before all of them"] {
        let proxy = Proxy::before(server.port(), 0);
        let (url, named) = match case {
            "for all of Amazon's services" => (bare.clone(), vec![("AWS_ENDPOINT_URL", proxy.endpoint())]),
            "for S3 before the others" => (bare.clone(), vec![("AWS_ENDPOINT_URL", nowhere()), ("AWS_ENDPOINT_URL_S3", proxy.endpoint())]),
            _ => {
                (format!("{bare}&endpoint={}", proxy.endpoint()), vec![("AWS_ENDPOINT_URL", nowhere()), ("AWS_ENDPOINT_URL_S3", nowhere())])
            }
        };
        list(&url, &named).done();
        let seen = proxy.seen();
        assert!(!seen.is_empty(), "{case}");
        for seen in seen {
            assert!(seen.request.target.starts_with(&format!("/{BUCKET}")), "{case}: {} {}", seen.request.method, seen.request.target);
        }
    }
    for endpoint in ["http://objects.example.com:9000", "objects.example.com:9000", "ftp://objects.example.com"] {
        let run = list(&bare, &[("AWS_ENDPOINT_URL", endpoint.to_owned())]);
        run.refused(2, &["AWS_ENDPOINT_URL", "  remedy: "]);
    }
}
