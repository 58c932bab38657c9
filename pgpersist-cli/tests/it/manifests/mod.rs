//! `examples/kubernetes`, `examples/container` and `examples/systemd`: their files agree with each other and with the program, and what
//! they describe runs, as a process under the security context that they name. `docs/iam`: roles that may what they should.

mod agreement;
mod iam;
mod image;
mod life;
mod node;
mod pod;
mod probes;
mod unit;

use std::fs;
use std::path::{Path, PathBuf};

use yaml_rust2::{Yaml, YamlLoader};

const STATEFULSET: &str = "kubernetes/overlays/statefulset/statefulset.yaml";
const DEPLOYMENT: &str = "kubernetes/overlays/deployment/deployment.yaml";

fn path(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example)
}

fn text(example: &str) -> String {
    fs::read_to_string(path(example)).unwrap_or_else(|e| panic!("{example}: {e}"))
}

/// The documents of an example in YAML.
fn documents(example: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&text(example)).unwrap_or_else(|e| panic!("{example}: {e}"))
}

/// The only document of an example in YAML.
fn document(example: &str) -> Yaml {
    let documents = documents(example);
    assert_eq!(documents.len(), 1, "{example}");
    documents.into_iter().next().unwrap()
}

#[track_caller]
fn list(value: &Yaml) -> &[Yaml] {
    value.as_vec().unwrap_or_else(|| panic!("no list: {value:?}"))
}

/// The only element of a list for which `key` is `value`.
#[track_caller]
fn named<'a>(within: &'a Yaml, key: &str, value: &str) -> &'a Yaml {
    let found: Vec<&Yaml> = list(within).iter().filter(|item| item[key].as_str() == Some(value)).collect();
    assert_eq!(found.len(), 1, "{key}: {value}");
    found[0]
}

#[track_caller]
fn word(value: &Yaml) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value:?}"))
}

#[track_caller]
fn words(value: &Yaml) -> Vec<String> {
    list(value).iter().map(|word| self::word(word).to_owned()).collect()
}

#[track_caller]
fn number(value: &Yaml) -> u32 {
    value.as_i64().and_then(|number| number.try_into().ok()).unwrap_or_else(|| panic!("no number: {value:?}"))
}

/// The seconds that `--stop-timeout` names among arguments.
#[track_caller]
fn stop_timeout(arguments: &[String]) -> u32 {
    let at = arguments.iter().position(|word| word == "--stop-timeout").expect("the arguments name a --stop-timeout");
    arguments[at + 1].parse().unwrap()
}
