//! A node as far as we need one: it makes volumes ready like the kubelet, and runs a container as a runtime does, with namespaces, a
//! root of layers that is read-only, a user, and no capability. What it does not have is a filter of system calls.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::manifests::image::Image;
use crate::manifests::pod::{Container, Files, Mounted};
use crate::run::{Agent, eventually, kill};
use crate::support::cluster::TestCluster;
use crate::support::container::can_isolate;
use crate::support::processes;
use crate::support::scratch::Run;
use crate::support::skip::skip;
use crate::support::volume::must;

/// What a runtime gives every process, unless the image says otherwise.
const ENVIRONMENT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/postgresql";

/// Where the container's namespace has the port that the manifest names, a loopback must be up. `SIOCSIFFLAGS` of `netdevice(7)`.
const LOOPBACK: &str = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh22x', b'lo', 0x1))";

/// Whether a container can be run here: namespaces, and a root of layers in them. A test that needs them skips where not.
pub(super) fn can_run_containers(cluster: &TestCluster) -> bool {
    if !can_isolate() {
        return false;
    }
    let layers = cluster.scratch.join("layers");
    fs::create_dir_all(&layers).unwrap();
    let script = layered(layers.to_str().unwrap());
    let probe = Command::new("unshare").args(["--net", "--mount", "--", "sh", "-c", &script]).output();
    let can = probe.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        skip("mount", format_args!("no root of layers can be mounted here: {probe:?}"));
    }
    can
}

/// Mounts this machine's files with a layer above that takes what is written.
fn layered(layers: &str) -> String {
    format!(
        "set -eu\n\
         mount -t tmpfs -o mode=0755 layers {layers}\n\
         mkdir {layers}/upper {layers}/work {layers}/root\n\
         mount -t overlay -o lowerdir=/,upperdir={layers}/upper,workdir={layers}/work image {layers}/root\n"
    )
}

/// A machine with its volumes' mount points, in a test's scratch folder.
pub(super) struct Node<'a> {
    cluster: &'a TestCluster,
    configuration: PathBuf,
    secret: PathBuf,
}

impl<'a> Node<'a> {
    /// With files to be handed in, by name and text.
    pub(super) fn new(cluster: &'a TestCluster, configuration: &[(String, String)], secret: &[(String, String)], gid: u32) -> Self {
        let hand_in = |name: &str, files: &[(String, String)], mode: u32| {
            // As the kubelet writes them: links into a folder that is exchanged as a whole.
            let folder = cluster.scratch.join(name);
            fs::create_dir_all(folder.join("..first")).unwrap();
            symlink("..first", folder.join("..data")).unwrap();
            for (file, text) in files {
                let path = cluster.scratch.write_bytes(&format!("{name}/..first/{file}"), text.as_bytes());
                chown(&path, Some(0), Some(gid)).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                symlink(format!("..data/{file}"), folder.join(file)).unwrap();
            }
            folder
        };
        Self { cluster, configuration: hand_in("configuration", configuration, 0o644), secret: hand_in("secret", secret, 0o440) }
    }

    /// What the kubelet does to a volume that is not the group's yet: everything becomes the group's to change, and what is made in it
    /// later is the group's.
    pub(super) fn give_to_group(volume: &Path, gid: u32) {
        must(Command::new("chgrp").args(["-R", &gid.to_string()]).arg(volume));
        must(Command::new("chmod").args(["-R", "g+rwX,g+s"]).arg(volume));
    }

    /// Starts the container in namespaces of its own.
    pub(super) fn run<'c>(&self, image: &Image, container: &'c Container) -> Pod<'c> {
        let layers = self.cluster.scratch.join("layers");
        let script = self.script(image, container, layers.to_str().unwrap());
        let mut command = Command::new("unshare");
        command.args(["--fork", "--kill-child", "--pid", "--ipc", "--net", "--mount", "--", "sh", "-c", &script]);
        self.cluster.scratch.prepare(&mut command);
        Pod { agent: Agent::spawn(self.cluster, command), container }
    }

    /// What a runtime does before the container's process: the shell becomes that process, the namespace's first.
    fn script(&self, image: &Image, container: &Container, layers: &str) -> String {
        let root = format!("{layers}/root");
        let (uid, gid) = (container.uid, container.gid);
        let mut script = layered(layers);
        script += &format!(
            "python3 -c {loopback}\n\
             mount -t proc proc {root}/proc\n\
             mount --rbind /sys {root}/sys\n\
             mount --rbind /dev {root}/dev\n\
             cp {program} {root}{installed}\n\
             chmod 0755 {root}{installed}\n\
             sed -i -e /^postgres:/d -e /^[^:]*:[^:]*:{uid}:/d {root}/etc/passwd\n\
             sed -i -e /^postgres:/d -e /^[^:]*:[^:]*:{gid}:/d {root}/etc/group\n\
             for file in shadow gshadow; do [ ! -e {root}/etc/$file ] || sed -i /^postgres:/d {root}/etc/$file; done\n",
            loopback = quoted(LOOPBACK),
            program = quoted(env!("CARGO_BIN_EXE_pgpersist")),
            installed = image.program,
        );
        for command in &image.made_by {
            script += &format!("chroot {root} sh -c {}\n", quoted(command));
        }
        for (path, mounted) in &container.mounts {
            // In the root: there /var/run is a link that would lead out of it.
            script += &format!("at={root}$(chroot {root} realpath -m {path}); mkdir -p $at\n");
            script += &match mounted {
                Mounted::Volume(name) => format!("mount --bind {} $at\n", self.cluster.scratch.join(name).display()),
                Mounted::Memory(options) => format!("mount -t tmpfs -o {options} memory $at\n"),
                Mounted::Files(files) => {
                    let folder = match files {
                        Files::Configuration => &self.configuration,
                        Files::Secret => &self.secret,
                    };
                    format!("mount --bind {} $at; mount -o remount,bind,ro $at\n", folder.display())
                }
            };
        }
        if container.root_is_read_only {
            script += &format!("mount -o remount,bind,ro {root}\n");
        }
        let words = as_container(container, &container.command);
        script + &format!("exec chroot {root} {}\n", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
    }
}

/// A container that runs; it is killed with its handle.
pub(super) struct Pod<'a> {
    pub(super) agent: Agent,
    container: &'a Container,
}

impl Pod<'_> {
    /// Its first process, seen from the node.
    pub(super) fn first_process(&self) -> i32 {
        let mut children = Vec::new();
        eventually("the container has a process", || {
            children = processes::children_of(self.agent.child.id() as i32);
            !children.is_empty()
        });
        children[0]
    }

    /// Runs a command in the container as its user, as `kubectl exec` does.
    pub(super) fn exec<S: AsRef<str>>(&self, words: &[S]) -> Run {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first_process().to_string(), "--mount", "--ipc", "--net", "--pid", "--root", "--wd", "--"]);
        command.args(as_container(self.container, words));
        Run::from(command.output().unwrap())
    }

    /// Waits until it has been ready so often, with those before it.
    #[track_caller]
    pub(super) fn wait_until_ready(&mut self, times: usize) {
        self.agent.wait_for(" is ready after ", times);
    }

    /// What the kubelet sends first. Whether it ends in time is the manifest's promise.
    #[track_caller]
    pub(super) fn terminated(&mut self) -> Option<i32> {
        kill(self.first_process(), Signal::TERM);
        self.agent.ended()
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        // The kernel forgets whose death a process is to share when that changes its user, so this one does not end with the node's.
        for first in processes::children_of(self.agent.child.id() as i32) {
            let _ = Pid::from_raw(first).map(|first| kill_process(first, Signal::KILL));
        }
        let _ = self.agent.child.wait();
    }
}

/// A command as the container's user, without capabilities or a way to get any.
fn as_container<S: AsRef<str>>(container: &Container, words: &[S]) -> Vec<String> {
    let mut whole: Vec<String> = vec!["env".into(), "-i".into()];
    whole.extend(ENVIRONMENT.split(' ').map(str::to_owned));
    whole.extend(container.environment.iter().map(|(name, value)| format!("{name}={value}")));
    let (uid, gid) = (container.uid, container.gid);
    whole.extend(["setpriv".into(), format!("--reuid={uid}"), format!("--regid={gid}"), format!("--groups={gid}")]);
    whole.extend(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"].map(str::to_owned));
    whole.extend(words.iter().map(|word| word.as_ref().to_owned()));
    whole
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
