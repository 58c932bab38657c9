//! `docs/iam`: what each role may do in each cloud, and what it may not.

use std::fs;
use std::path::Path;

use serde_json::Value;
use yaml_rust2::YamlLoader;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/iam").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(all) => all.iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        other => panic!("no text: {other}"),
    }
}

/// All that a role allows.
fn allowed(cloud: &str, role: &str) -> Vec<String> {
    if cloud == "gcs" {
        let documents = YamlLoader::load_from_str(&read(&format!("{cloud}-{role}.yaml"))).unwrap();
        return super::words(&documents[0]["includedPermissions"]);
    }
    let document: Value = serde_json::from_str(&read(&format!("{cloud}-{role}.json"))).unwrap();
    if cloud == "azure" {
        return texts(&document["DataActions"]);
    }
    let statements = document["Statement"].as_array().unwrap().iter();
    statements.filter(|statement| statement["Effect"] == "Allow").flat_map(|statement| texts(&statement["Action"])).collect()
}

#[test]
fn a_reader_only_reads_a_writer_deletes_nothing_and_a_maintainer_may_more() {
    for cloud in ["s3", "gcs", "azure"] {
        let [reader, writer, maintainer] = ["reader", "writer", "maintainer"].map(|role| allowed(cloud, role));
        let may = |role: &[String], what: &str| role.iter().any(|action| action.to_lowercase().contains(what));
        assert!(may(&reader, "read") || may(&reader, "get"), "{cloud}: {reader:?}");
        for more in ["put", "create", "write", "delete", "abort", "*"] {
            assert!(!may(&reader, more), "{cloud}: {reader:?}");
        }
        assert!(may(&writer, "put") || may(&writer, "create") || may(&writer, "write"), "{cloud}: {writer:?}");
        assert!(!may(&writer, "delete") && !may(&writer, "*"), "{cloud}: {writer:?}");
        assert!(may(&maintainer, "delete") && !may(&maintainer, "*"), "{cloud}: {maintainer:?}");
        for (less, more) in [(&reader, &writer), (&writer, &maintainer)] {
            assert!(less.iter().all(|action| more.contains(action)), "{cloud}: {less:?} is not in {more:?}");
        }
    }
}

#[test]
fn the_writer_of_s3_can_write_over_nothing_that_a_dump_is_called() {
    let document: Value = serde_json::from_str(&read("s3-writer.json")).unwrap();
    let denied = document["Statement"].as_array().unwrap().iter().find(|statement| statement["Effect"] == "Deny").unwrap();
    assert!(texts(&denied["Action"]).contains(&"s3:PutObject".to_owned()));
    assert_eq!(denied["Condition"]["Null"]["s3:if-none-match"], "true");
    let resources = texts(&denied["Resource"]);
    for begin in ["backup_", "globals_"] {
        for end in [".sql.gz", ".sql.gz.age"] {
            let pattern = format!("/*{begin}*{end}");
            assert!(resources.iter().any(|resource| resource.ends_with(&pattern)), "{pattern}: {resources:?}");
        }
    }
}
