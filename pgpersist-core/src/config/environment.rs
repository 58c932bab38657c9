//! Reads `PGPERSIST_<SECTION>_<KEY>` and libpq's own variables.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::keys::{self, Key};
use crate::config::layer::Layer;
use crate::config::value::{self, Raw, Source};
use crate::error::Result;

/// The variables that name no key: where the configuration lies, and what the program tells itself.
pub const CONFIG: &str = "PGPERSIST_CONFIG";
/// The content of the file that [`CONFIG`] names, when a process that could read it hands over to one that cannot.
pub const CONFIG_TEXT: &str = "PGPERSIST_CONFIG_TEXT";
/// The directory that relative paths count from, when it is not the current one.
pub const WORKING_DIRECTORY: &str = "PGPERSIST_WORKING_DIRECTORY";
/// What a process passes to the one it hands over to. A program of somebody else, started from there, must not inherit
/// them: they would tell a pgpersist below it about another directory and file.
pub const HANDED_OVER: &[&str] = &[CONFIG, CONFIG_TEXT, WORKING_DIRECTORY];

/// What a hook is told by its environment; it may call us again.
const TOLD_TO_HOOKS: &[&str] = &["PGPERSIST_EVENT", "PGPERSIST_STATUS", "PGPERSIST_CLUSTER", "PGPERSIST_SUMMARY"];
/// `PGPERSIST_CACHE` is where templates of throw-away clusters are kept, also without a configuration.
const RESERVED: &[&str] = &[CONFIG, CONFIG_TEXT, WORKING_DIRECTORY, "PGPERSIST_LOG", "PGPERSIST_CACHE"];
const PREFIX: &str = "PGPERSIST_";
const SETTINGS_PREFIX: &str = "PGPERSIST_CLUSTER_SETTINGS_";

/// The variables of libpq that stand for keys of ours, see *Environment Variables* in libpq's chapter, PostgreSQL 17.
/// `PGDATA` belongs to the server's programs.
const LIBPQ: &[(&str, &str)] = &[("PGDATA", "cluster.data_directory"), ("PGPORT", "cluster.port")];

/// The values of `PGDATA` and `PGPORT`. An empty variable says nothing, as in libpq.
pub(crate) fn read_libpq(environment: &BTreeMap<String, String>, base: &Path) -> Result<Layer> {
    let mut layer = Layer::new(base.to_owned());
    for (variable, name) in LIBPQ {
        if let (Some(text), Some(key)) = (environment.get(*variable).filter(|text| !text.is_empty()), keys::find(name)) {
            layer.set(key, Raw::Word(text.clone()), Source::Variable((*variable).to_owned()))?;
        }
    }
    Ok(layer)
}

/// The values of `PGPERSIST_*`.
///
/// # Errors
/// `Config` for a variable that stands for no key, since it is most likely a typo, and for a value that does not fit.
pub(crate) fn read_own(environment: &BTreeMap<String, String>, base: &Path) -> Result<Layer> {
    let mut layer = Layer::new(base.to_owned());
    for (variable, text) in environment.iter().filter(|(variable, _)| variable.starts_with(PREFIX)) {
        let is_reserved = [RESERVED, TOLD_TO_HOOKS].iter().any(|names| names.contains(&variable.as_str()));
        if is_reserved || variable.starts_with("PGPERSIST_TEST_") || is_service_link(variable, text) {
            continue;
        }
        let source = Source::Variable(variable.clone());
        if let Some(setting) = variable.strip_prefix(SETTINGS_PREFIX) {
            layer.setting(&setting.to_ascii_lowercase(), Raw::Word(text.clone()), source)?;
        } else if variable == "PGPERSIST_STORE_URL" {
            for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
                layer.store(&keys::STORE_KEYS[0], Raw::Word(url.to_owned()), source.clone())?;
            }
        } else if let Some(key) = key_of(variable) {
            layer.set(key, Raw::Word(text.clone()), source)?;
        } else {
            return Err(value::wrong(&source, variable, "it stands for no key", Some(nearest(variable))));
        }
    }
    Ok(layer)
}

/// The variable of a key: `cluster.os_user` → `PGPERSIST_CLUSTER_OS_USER`.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "_"))
}

fn key_of(name: &str) -> Option<&'static Key> {
    keys::KEYS.iter().find(|key| variable(key.name) == name)
}

fn nearest(unknown: &str) -> String {
    for (list, word, section) in [("PGPERSIST_HEALTH_PROBE", "probes", "health.probe"), ("PGPERSIST_DRILL_CHECK", "checks", "drill.check")]
    {
        if unknown.starts_with(list) {
            return format!("{word} come from the file alone: write `[[{section}]]`");
        }
    }
    let known = keys::KEYS.iter().map(|key| variable(key.name)).chain(["PGPERSIST_STORE_URL".to_owned(), CONFIG.to_owned()]);
    known
        .map(|name| (strsim::damerau_levenshtein(unknown, &name), name))
        .filter(|(distance, _)| *distance <= 4)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(|| "unset it; `pgpersist config show` lists every key".to_owned(), |(_, name)| format!("did you mean {name}?"))
}

/// Kubernetes tells every container about every service of its namespace, by variables that begin with the service's name
/// (*Discovering services*): a service `pgpersist` or `pgpersist-cluster` must not stop us.
fn is_service_link(variable: &str, text: &str) -> bool {
    let address = |prefix: &str| text.starts_with(prefix) && variable.contains("_PORT");
    let part_of_port = |name: &str| {
        name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
            let mut parts = rest.splitn(3, '_');
            let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
            number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        })
    };
    variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_")
        || address("tcp://")
        || address("udp://")
        || address("sctp://")
        || part_of_port(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_variable_that_stands_for_no_key_names_the_nearest() {
        let error = read_own(&environment(&[("PGPERSIST_CLUSTER_PROT", "1")]), Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "environment variable PGPERSIST_CLUSTER_PROT: it stands for no key");
        assert_eq!(error.remedy().unwrap(), "did you mean PGPERSIST_CLUSTER_PORT?");
    }

    #[test]
    fn a_service_of_kubernetes_is_no_typo() {
        let links = [
            ("PGPERSIST_SERVICE_HOST", "10.0.0.1"),
            ("PGPERSIST_SERVICE_PORT", "5432"),
            ("PGPERSIST_SERVICE_PORT_SQL", "5432"),
            ("PGPERSIST_PORT", "tcp://10.0.0.1:5432"),
            ("PGPERSIST_PORT_5432_TCP", "tcp://10.0.0.1:5432"),
            ("PGPERSIST_PORT_5432_TCP_ADDR", "10.0.0.1"),
            ("PGPERSIST_PORT_5432_TCP_PROTO", "tcp"),
            ("PGPERSIST_CLUSTER_PORT", "tcp://10.0.0.1:5432"),
        ];
        assert_eq!(read_own(&environment(&links), Path::new("/")).unwrap().values, []);
    }

    #[test]
    fn lists_are_split_at_commas_and_reserved_names_are_left_alone() {
        let layer = read_own(
            &environment(&[
                ("PGPERSIST_CLUSTER_DATABASES", "a, b"),
                ("PGPERSIST_STORE_URL", "/one,file:///two"),
                ("PGPERSIST_CLUSTER_SETTINGS_SHARED_BUFFERS", "1GB"),
                ("PGPERSIST_TEST_ANYTHING", "x"),
                ("PGPERSIST_CONFIG", "x"),
                ("PGPERSIST_EVENT", "failure"),
                ("PATH", "/bin"),
            ]),
            Path::new("/"),
        )
        .unwrap();
        assert_eq!(layer.values[0].1.value.to_json(), serde_json::json!(["a", "b"]));
        assert_eq!(layer.stores.iter().map(|s| s.url.value.to_string()).collect::<Vec<_>>(), ["/one", "file:///two"]);
        assert_eq!(layer.settings[0].0, "shared_buffers");
    }
}
