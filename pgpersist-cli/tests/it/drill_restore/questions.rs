//! The user's own checks: `[[drill.check]]`.

use serde_json::Value;

use crate::drill_restore::{dumped, report};

const CHECKS: &str = r#"
[[drill.check]]
name = "sum"
database = "shop"
sql = "select sum(amount) = 36 from orders"
"#;

fn check(name: &str, database: &str, sql: &str) -> String {
    format!("[[drill.check]]\nname = \"{name}\"\ndatabase = \"{database}\"\nsql = \"{sql}\"\n")
}

/// What the drill says of this check.
#[track_caller]
fn told(report: &Value, name: &str) -> (String, String) {
    let checks = report["databases"][0]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == format!("check:{name}")).unwrap_or_else(|| panic!("no {name} in {report}"));
    let text = |field: &str| check[field].as_str().unwrap().to_owned();
    (text("status"), text("summary"))
}

#[test]
fn each_check_must_return_one_row_that_is_true() {
    let wrong = [
        ("false", "select amount > 5 from orders where id = 3", "it returned false"),
        ("null", "select null::bool", "it returned null"),
        ("typo", "select amonut > 5 from orders", "column \\\"amonut\\\" does not exist"),
        ("number", "select count(*) from orders", "it returns `int8`, and a check returns a boolean"),
        ("wide", "select true, true", "it returns 2 columns"),
        ("none", "select true where false", "it returned no row"),
        ("many", "select true from orders", "it returned more than one row"),
        ("nothing", "commit", "it returns 0 columns"),
        ("two", "select true; select true", "cannot insert multiple commands"),
        ("change", "with x as (delete from orders returning true) select true", "read-only transaction"),
    ];
    let cluster = dumped("");
    let configure = |checks: &str| cluster.configure(&format!("databases = [\"shop\"]\n{checks}"));
    configure(CHECKS);
    let sound = report(&cluster, 0, &[]);
    assert_eq!(told(&sound, "sum"), ("pass".to_owned(), "it holds".to_owned()));

    let all: String = wrong.iter().map(|(name, sql, _)| check(name, "shop", sql)).collect();
    configure(&format!("{CHECKS}{all}"));
    let report_of_all = report(&cluster, 7, &[]);
    for (name, _, words) in wrong {
        let (status, summary) = told(&report_of_all, name);
        assert!(status == "fail" && summary.contains(&words.replace('\\', "")), "{name}: {summary}");
    }
    assert_eq!(told(&report_of_all, "sum").0, "pass", "one that fails keeps no other from being asked");
    assert_eq!(report_of_all["lost"], 0);

    // What everything is asked for and cannot be is not proven; what is about another database than the chosen one is left out.
    configure(&check("elsewhere", "nowhere", "select true"));
    let unasked = report(&cluster, 7, &[]);
    assert_eq!(unasked["reasons"][0], "check:elsewhere is about `nowhere`, which is not restored");
    report(&cluster, 0, &["-d", "shop"]);
    report(&cluster, 0, &["--dump", "latest"]);
}

#[test]
fn a_check_reads_everything_and_is_no_superuser() {
    let cluster = dumped("");
    cluster.sql(
        "shop",
        "CREATE SCHEMA closed; CREATE TABLE closed.t (a int); INSERT INTO closed.t VALUES (1);
         ALTER TABLE closed.t ENABLE ROW LEVEL SECURITY; ALTER DATABASE shop SET search_path = closed",
    );
    cluster.dump(&[]);
    let checks = [
        check("reads", "shop", "select count(*) = 1 from t"),
        check("powerless", "shop", "select not usesuper from pg_user where usename = session_user"),
    ];
    cluster.configure(&format!("databases = [\"shop\"]\n{}", checks.concat()));
    report(&cluster, 0, &[]);
}
