//! A container, as a manifest or a compose file tells a runtime to run it.

use yaml_rust2::Yaml;

use crate::manifests::image::Image;
use crate::manifests::{list, number, word, words};

/// What is mounted at a path of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mounted {
    /// A volume that lasts, by its name.
    Volume(String),
    /// A folder in memory, which ends with the container, with the options of its mount.
    Memory(String),
    /// Files that nobody in the container can change, by their source's kind and name.
    Files(Files),
}

/// Where files that are handed in come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Files {
    /// A ConfigMap, or what stands for it.
    Configuration,
    /// A Secret.
    Secret,
}

/// All that a runtime is told.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) root_is_read_only: bool,
    /// By path.
    pub(super) mounts: Vec<(String, Mounted)>,
}

impl Container {
    /// The only container of a pod's template. What it does not say is the image's.
    pub(super) fn of_pod(template: &Yaml, image: &Image) -> Self {
        let (pod, container) = (&template["spec"], &template["spec"]["containers"][0]);
        let (context, own) = (&pod["securityContext"], &container["securityContext"]);
        let gid = number(&context["runAsGroup"]);
        assert_eq!(number(&context["fsGroup"]), gid, "volumes belong to the group that the process has anyway");
        assert_eq!(own["allowPrivilegeEscalation"].as_bool(), Some(false));
        assert_eq!(words(&own["capabilities"]["drop"]), ["ALL"]);
        let arguments = if container["args"].is_badvalue() { image.arguments.clone() } else { words(&container["args"]) };
        let mut environment = image.environment.clone();
        environment.extend(list(&container["env"]).iter().map(|pair| (word(&pair["name"]).to_owned(), word(&pair["value"]).to_owned())));
        let mounts = list(&container["volumeMounts"]).iter();
        Self {
            command: [image.entrypoint.clone(), arguments].concat(),
            environment,
            uid: number(&context["runAsUser"]),
            gid,
            root_is_read_only: own["readOnlyRootFilesystem"].as_bool() == Some(true),
            mounts: mounts
                .map(|mount| (word(&mount["mountPath"]).to_owned(), mounted(word(&mount["name"]), &pod["volumes"], gid)))
                .collect(),
        }
    }

    /// A service of the compose file.
    pub(super) fn of_service(service: &Yaml, image: &Image) -> Self {
        let (uid, gid) = word(&service["user"]).split_once(':').unwrap();
        assert_eq!(words(&service["cap_drop"]), ["ALL"]);
        assert_eq!(words(&service["security_opt"]), ["no-new-privileges:true"]);
        let mut environment = image.environment.clone();
        let own = service["environment"].as_hash().unwrap();
        environment.extend(own.iter().map(|(name, value)| (word(name).to_owned(), word(value).to_owned())));
        let mut mounts = Vec::new();
        for entry in words(&service["tmpfs"]) {
            let (path, options) = entry.split_once(':').unwrap_or((&entry, "mode=1777"));
            mounts.push((path.to_owned(), Mounted::Memory(options.to_owned())));
        }
        for entry in words(&service["volumes"]) {
            let (source, path) = entry.split_once(':').unwrap();
            let mount = match path.strip_suffix(":ro") {
                Some(path) if source == "./etc" => (path.to_owned(), Mounted::Files(Files::Configuration)),
                None => (path.to_owned(), Mounted::Volume(source.to_owned())),
                Some(_) => panic!("what is {source}?"),
            };
            mounts.push(mount);
        }
        assert!(!words(&service["secrets"]).is_empty());
        mounts.push(("/run/secrets".to_owned(), Mounted::Files(Files::Secret)));
        Self {
            command: [image.entrypoint.clone(), image.arguments.clone()].concat(),
            environment,
            uid: uid.parse().unwrap(),
            gid: gid.parse().unwrap(),
            root_is_read_only: service["read_only"].as_bool() == Some(true),
            mounts,
        }
    }
}

/// What a volume's name means in a pod; a claim of a StatefulSet's templates stands nowhere in it.
fn mounted(name: &str, volumes: &Yaml, gid: u32) -> Mounted {
    let Some(volume) = list(volumes).iter().find(|volume| volume["name"].as_str() == Some(name)) else {
        return Mounted::Volume(name.to_owned());
    };
    let has = |kind: &str| !volume[kind].is_badvalue();
    match () {
        () if has("emptyDir") => Mounted::Memory(format!("mode=2777,gid={gid}")),
        () if has("configMap") => Mounted::Files(Files::Configuration),
        () if has("secret") => Mounted::Files(Files::Secret),
        () if has("persistentVolumeClaim") => Mounted::Volume(name.to_owned()),
        () => panic!("what is the volume {name}?"),
    }
}
