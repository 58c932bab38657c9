//! What the files say of each other holds: numbers that must exceed others, paths and ports that must be the same, configurations that
//! the program accepts.

use std::collections::BTreeMap;

use serde_json::Value;
use yaml_rust2::Yaml;

use crate::manifests::image::Image;
use crate::manifests::pod::{Container, Files, Mounted};
use crate::manifests::{DEPLOYMENT, STATEFULSET, document, documents, list, named, number, stop_timeout, text, word, words};
use crate::support::scratch::Scratch;

fn configuration() -> Yaml {
    document("kubernetes/base/configmap.yaml")["data"].clone()
}

/// What the program makes of a configuration, by key.
fn shown(configuration: &str) -> BTreeMap<String, Value> {
    let scratch = Scratch::new();
    scratch.write("pgpersist.toml", configuration);
    let check = scratch.run(&["config", "check", "--config", "{dir}/pgpersist.toml"], &[]);
    assert!(matches!(check.code, Some(0 | 3)), "{check:?}");
    // What a later version does may be configured already; a mistake may not.
    assert!(check.stderr.lines().all(|line| line.starts_with("warning: ") && line.contains("this version")), "{check:?}");
    let show = scratch.run(&["config", "show", "--json", "--config", "{dir}/pgpersist.toml"], &[]).done().json();
    let values = show["values"].as_array().unwrap().iter();
    values.map(|value| (value["key"].as_str().unwrap().to_owned(), value["value"].clone())).collect()
}

/// The templates of the pod in the StatefulSet and in the Deployment.
fn templates() -> [Yaml; 2] {
    [STATEFULSET, DEPLOYMENT].map(|file| document(file)["spec"]["template"].clone())
}

/// Whether a path lies below one of these.
fn lies_in<'a>(path: &Value, mut folders: impl Iterator<Item = &'a String>) -> bool {
    let path = path.as_str().unwrap().trim_start_matches("file://");
    folders.any(|folder| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')))
}

#[test]
fn the_configurations_are_accepted_and_name_places_on_the_volumes() {
    let image = Image::read();
    let compose = documents("container/compose.yaml").remove(0);
    let service = &compose["services"]["postgres"];
    let secret = document("kubernetes/base/secret.yaml")["stringData"].clone();
    let in_secret: Vec<String> = secret.as_hash().unwrap().keys().map(|key| word(key).to_owned()).collect();
    for (configuration, container, secrets) in [
        (word(&configuration()["pgpersist.toml"]).to_owned(), Container::of_pod(&templates()[0], &image), in_secret),
        (text("container/etc/pgpersist.toml"), Container::of_service(service, &image), words(&service["secrets"])),
    ] {
        let shown = shown(&configuration);
        let volumes: Vec<String> =
            container.mounts.iter().filter(|(_, mounted)| matches!(mounted, Mounted::Volume(_))).map(|(path, _)| path.clone()).collect();
        // Below a volume, not the volume itself.
        for key in ["cluster.data_directory", "store.0.url"] {
            let value = shown.get(key).or_else(|| shown.get(&key.replace(".0", ""))).unwrap_or_else(|| panic!("{key}: {shown:?}"));
            assert!(lies_in(value, volumes.iter()), "{key} = {value} is on none of {volumes:?}");
        }
        assert!(image.environment.iter().any(|(name, value)| name == "PGDATA" && *value == shown["cluster.data_directory"]));
        let path_of =
            |wanted: Files| container.mounts.iter().find(|(_, mounted)| *mounted == Mounted::Files(wanted.clone())).unwrap().0.clone();
        assert_eq!(path_of(Files::Configuration), "/etc/pgpersist", "where the program looks by itself");
        assert_eq!(shown["cluster.settings.hba_file"], "/etc/pgpersist/pg_hba.conf");
        let token = shown["health.token_file"].as_str().unwrap();
        let password = &container.environment.iter().find(|(name, _)| name == "APP_PASSWORD_FILE").unwrap().1;
        for file in [token, password.as_str()] {
            let key = file.strip_prefix(&format!("{}/", path_of(Files::Secret))).unwrap();
            assert!(secrets.iter().any(|name| name == key), "there is no secret {key}");
        }
    }
    // Compose brings nothing but files of the machine into a container whose root is read-only.
    for name in words(&service["secrets"]) {
        let file = compose["secrets"][name.as_str()]["file"].as_str();
        assert!(file.is_some_and(|file| file.starts_with('/')), "{name}: {file:?}");
    }
}

#[test]
fn whatever_run_can_do_at_its_times_is_turned_on_in_each_configuration() {
    let container = text("container/etc/pgpersist.toml");
    for configuration in [word(&configuration()["pgpersist.toml"]).to_owned(), text("systemd/pgpersist.toml"), container.clone()] {
        let shown = shown(&configuration);
        for key in ["cluster.ballast", "dump.schedule", "retention.keep_days", "drill.restore", "health.listen"] {
            assert!(shown.get(key).is_some_and(|value| !value.is_null()), "{key}: {shown:?}");
        }
    }
    // Compose publishes where it listens, to its machine alone.
    let compose = documents("container/compose.yaml").remove(0);
    let listen = shown(&container)["health.listen"].clone();
    let (_, port) = listen.as_str().unwrap().rsplit_once(':').unwrap();
    let published = words(&compose["services"]["postgres"]["ports"]);
    assert!(published.contains(&format!("127.0.0.1:{port}:{port}")), "{published:?}");
}

#[test]
fn probes_services_and_prometheus_ask_where_the_configuration_listens() {
    let shown = shown(word(&configuration()["pgpersist.toml"]));
    let listen = shown["health.listen"].as_str().unwrap();
    let (address, port) = listen.rsplit_once(':').unwrap();
    assert!(!address.starts_with("127."), "the kubelet is not in the pod");
    for template in templates() {
        let container = &template["spec"]["containers"][0];
        let port_of = |name: &str| number(&named(&container["ports"], "name", name)["containerPort"]);
        assert_eq!(
            (port_of("health").to_string().as_str(), u64::from(port_of("postgresql"))),
            (port, shown["cluster.port"].as_u64().unwrap())
        );
        for (probe, path) in [("startupProbe", "/startupz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
            let get = &container[probe]["httpGet"];
            assert_eq!((word(&get["path"]), word(&get["port"])), (path, "health"), "{probe}");
        }
        let startup = &container["startupProbe"];
        assert!(number(&startup["periodSeconds"]) * number(&startup["failureThreshold"]) >= 86_400, "a recovery is given a day");
        let notes = &template["metadata"]["annotations"];
        assert_eq!((word(&notes["prometheus.io/path"]), word(&notes["prometheus.io/port"])), ("/metrics", port));
        for service in ["kubernetes/base/service.yaml", "kubernetes/overlays/statefulset/service-pods.yaml"] {
            let service = document(service);
            assert_eq!(service["spec"]["selector"], template["metadata"]["labels"]);
            for entry in list(&service["spec"]["ports"]) {
                assert_eq!(number(&entry["port"]), port_of(word(&entry["targetPort"])));
            }
        }
        assert_eq!(document("kubernetes/base/poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]);
    }
}

#[test]
fn whoever_kills_waits_longer_than_a_clean_shutdown_may_take() {
    for template in templates() {
        let container = &template["spec"]["containers"][0];
        let before = words(&container["lifecycle"]["preStop"]["exec"]["command"]);
        assert_eq!(before[0], "timeout", "the kubelet's patience covers both");
        let needed = before[1].parse::<u32>().unwrap() + stop_timeout(&words(&container["args"]));
        // An immediate shutdown follows the clean one, and takes its time, too.
        assert!(number(&template["spec"]["terminationGracePeriodSeconds"]) >= needed + 10);
    }
    let compose = documents("container/compose.yaml").remove(0);
    let patience = word(&compose["services"]["postgres"]["stop_grace_period"]);
    assert!(patience.strip_suffix('s').unwrap().parse::<u32>().unwrap() >= stop_timeout(&Image::read().arguments) + 10);
}

#[test]
fn the_deployment_runs_the_same_pod_and_claims_what_it_mounts() {
    let [of_set, mut of_deployment] = templates();
    let volumes = list(&of_deployment["spec"]["volumes"]).to_vec();
    let (claims, others): (Vec<Yaml>, Vec<Yaml>) = volumes.into_iter().partition(|volume| !volume["persistentVolumeClaim"].is_badvalue());
    let spec = of_deployment.as_mut_hash().unwrap().get_mut(&Yaml::String("spec".to_owned())).unwrap();
    spec.as_mut_hash().unwrap().insert(Yaml::String("volumes".to_owned()), Yaml::Array(others));
    assert_eq!(of_set, of_deployment);

    let by_name: Vec<String> = documents("kubernetes/overlays/deployment/persistentvolumeclaims.yaml")
        .iter()
        .map(|claim| word(&claim["metadata"]["name"]).to_owned())
        .collect();
    let claimed: Vec<&str> = claims.iter().map(|volume| word(&volume["persistentVolumeClaim"]["claimName"])).collect();
    assert_eq!(claimed, by_name);
    let set = document(STATEFULSET);
    let templates = list(&set["spec"]["volumeClaimTemplates"]).iter().map(|claim| word(&claim["metadata"]["name"]));
    assert!(templates.eq(claims.iter().map(|volume| word(&volume["name"]))));
    assert_eq!(set["spec"]["serviceName"], document("kubernetes/overlays/statefulset/service-pods.yaml")["metadata"]["name"]);
    for workload in [set, document(DEPLOYMENT)] {
        assert_eq!(number(&workload["spec"]["replicas"]), 1);
        assert_eq!(workload["spec"]["selector"]["matchLabels"], workload["spec"]["template"]["metadata"]["labels"]);
    }
    assert_eq!(word(&document(DEPLOYMENT)["spec"]["strategy"]["type"]), "Recreate");
}

#[test]
fn the_image_and_all_who_run_it_agree() {
    let image = Image::read();
    let compose = documents("container/compose.yaml").remove(0);
    let service = &compose["services"]["postgres"];
    for template in templates() {
        let container = Container::of_pod(&template, &image);
        assert_eq!(image.user, format!("{}:{}", container.uid, container.gid));
        assert_eq!(template["spec"]["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
        assert_eq!(template["spec"]["containers"][0]["image"], service["image"]);
    }
    assert_eq!(image.user, word(&service["user"]));
    assert_eq!(word(&service["image"]), format!("pgpersist:{}", env!("CARGO_PKG_VERSION")));
    for name in ["pg_hba.conf", "app-role.sql"] {
        assert_eq!(word(&configuration()[name]), text(&format!("container/etc/{name}")), "{name} is one file in two places");
    }
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let release = |text: &str| text.split('.').map(|number| number.parse().unwrap()).collect::<Vec<u32>>();
    assert!(release(&image.rust) >= release(oldest), "the image is built by Rust {}, and {oldest} is the oldest that can", image.rust);
}
