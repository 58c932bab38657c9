//! `init` in places that are unlike a plain folder: parts elsewhere, a volume that did not come, a network file system.

use std::fs;
use std::process::Command;

use crate::support::mount::Mount;
use crate::support::scratch::{Run, Scratch};
use crate::support::user;
use crate::support::volume::{FileSystem, Volume, must};

#[test]
fn a_cluster_whose_wal_would_not_survive_is_refused_like_one_that_would_not() {
    let scratch = Scratch::new();
    let Some(volume) = Volume::create(scratch.path(), "disk", FileSystem::Ext4, 300) else { return };
    user::hand_over(volume.path());
    let Some(_memory) = Mount::new(&scratch.join("memory"), 64 << 10) else { return };
    user::hand_over(&scratch.join("memory"));
    let init = |more: &[&str]| scratch.run(&[&["init", "-D", "{dir}/disk/data", "--store", "{dir}/disk/store"], more].concat(), &[]);
    init(&[]).done();
    must(Command::new("mv").arg(scratch.join("disk/data/pg_wal")).arg(scratch.join("memory/wal")));
    std::os::unix::fs::symlink(scratch.join("memory/wal"), scratch.join("disk/data/pg_wal")).unwrap();
    let told = ["pg_wal lies in", "memory/wal", "would not survive this machine", "tmpfs", "--allow-ephemeral"];
    init(&[]).refused(5, &told);
    init(&["--dry-run"]).refused(5, &told);
    init(&["--allow-ephemeral"]).done();
}

#[test]
fn a_volume_that_did_not_come_is_not_restored_onto_the_disk_below_it() {
    let scratch = Scratch::new();
    let Some(disk) = Volume::create(scratch.path(), "disk", FileSystem::Ext4, 600) else { return };
    let Some(volume) = Volume::create(disk.path(), "volume", FileSystem::Ext4, 300) else { return };
    user::hand_over(volume.path());
    scratch.folder("store");
    scratch.write(
        "pgpersist.toml",
        "[[store]]\nurl = \"{dir}/store\"\n[cluster.settings]\nunix_socket_directories = \"{dir}/store\"\nlisten_addresses = \"\"\n\
         [cluster]\ndata_directory = \"{dir}/disk/volume/data\"\nport = {port}\nwhen_missing = \"restore\"\ndatabases = [\"orders\"]\n",
    );
    for command in ["init", "start", "dump", "stop"] {
        scratch.run(&[command], &[]).done();
    }
    let place: serde_json::Value = serde_json::from_slice(&fs::read(scratch.join("store/.pgpersist/main/place.json")).unwrap()).unwrap();
    assert_eq!((&place["mount_point"], &place["fs_type"]), (&scratch.fill("{dir}/disk/volume").into(), &"ext4".into()));
    drop(volume);
    // What is left is the mount point, on a disk that is persistent as well.
    user::hand_over(&scratch.join("disk/volume"));
    let told = ["the volume of its cluster is not mounted", &scratch.fill("{dir}/disk/volume"), "  remedy: mount the volume"];
    scratch.run(&["init"], &[]).refused(5, &told);
    assert_eq!(fs::read_dir(scratch.join("disk/volume")).unwrap().count(), 0);
    // On purpose it is done.
    let run = scratch.run(&["init", "--restore-latest", "--json"], &[]);
    assert!(matches!(run.code, Some(0 | 3)) && run.json()["action"] == "restored", "{run:?}");
}

#[test]
fn a_mount_point_is_filled_where_rename_knows_no_flags() {
    let scratch = Scratch::new();
    let Some(_volume) = Mount::new(&scratch.join("volume"), 256 << 10) else { return };
    user::hand_over(&scratch.join("volume"));
    let log = scratch.join("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=renameat2", "-e", "inject=renameat2:error=EINVAL", "-o"]).arg(&log);
    command.arg(env!("CARGO_BIN_EXE_pgpersist"));
    scratch.prepare(&mut command);
    command.args(["init", "--allow-ephemeral", "-D"]).arg(scratch.join("volume"));
    Run::from(command.output().unwrap()).done();
    let calls = fs::read_to_string(log).unwrap();
    assert!(calls.lines().filter(|line| line.contains("RENAME_NOREPLACE") && line.contains("INJECTED")).count() > 10, "{calls}");
    assert!(scratch.join("volume/global/pg_control").exists());
    assert!(!scratch.join("volume/.pgpersist/half-made.json").exists());
    assert_eq!(scratch.run(&["status", "-D", "{dir}/volume"], &[]).code, Some(6));
}
