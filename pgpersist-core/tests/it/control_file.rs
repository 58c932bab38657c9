//! Our reading of files against PostgreSQL's own, on every major version found.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use pgpersist_core::fs::walk::Walk;
use pgpersist_core::pg::control_file::{self, CONTROL_FILE_PATH, ClusterState, ControlFile};
use pgpersist_core::pg::page::{PAGE_SIZE, Page};
use pgpersist_core::pg::relation_file::RelationFile;
use pgpersist_core::pg::wal_page::{self, LONG_HEADER_SIZE, WalSegmentHeader};

use crate::support::installation::{Installation, succeed};
use crate::support::scratch::Scratch;

const CHECKSUMS: &[&str] = &["--data-checksums"];

fn no_checksums(installation: &Installation) -> Vec<&'static str> {
    let mut options = vec!["--wal-segsize=1"];
    // Checksums became the default in 18, and the way to say no came with that.
    if installation.version.major >= 18 {
        options.push("--no-data-checksums");
    }
    options
}

fn read(data_directory: &Path) -> ControlFile {
    let bytes = std::fs::read(data_directory.join(CONTROL_FILE_PATH)).unwrap();
    ControlFile::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", data_directory.display()))
}

/// Runs one query in a server without postmaster and returns the first row by column name.
fn query(installation: &Installation, data_directory: &Path, sql: &str) -> HashMap<String, String> {
    let mut command = installation.command("postgres");
    command.args(["--single", "-D"]).arg(data_directory).arg("template1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A line is a statement; the end of the input ends the server.
    child.stdin.take().unwrap().write_all(format!("{}\n", sql.replace('\n', " ")).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ERROR:"), "{}: {said}", installation.bin.display());
    let printed = String::from_utf8(output.stdout).unwrap();
    // Such as `	 1: timeline_id = "1"	(typeid = 23, len = 4, typmod = -1, byval = t)`.
    let cell = |line: &str| {
        let (name, rest) = line.split_once(": ")?.1.split_once(" = \"")?;
        Some((name.to_owned(), rest.split_once("\"\t(typeid")?.0.to_owned()))
    };
    printed.lines().filter_map(cell).collect()
}

/// What the server says about its control file, and the very bytes that it says it about.
const FROM_SQL: &str = "select system_identifier, pg_control_version, catalog_version_no,
    extract(epoch from pg_control_last_modified)::bigint as modified,
    checkpoint_lsn, redo_lsn, timeline_id, full_page_writes, extract(epoch from checkpoint_time)::bigint as checkpoint_time,
    min_recovery_end_lsn, min_recovery_end_timeline, backup_start_lsn,
    database_block_size, blocks_per_segment, wal_block_size, bytes_per_wal_segment, data_page_checksum_version,
    current_setting('wal_level') as wal_level, current_setting('wal_log_hints') as wal_log_hints,
    current_setting('max_connections') as max_connections, current_setting('max_worker_processes') as max_worker_processes,
    current_setting('max_wal_senders') as max_wal_senders, current_setting('max_prepared_transactions') as max_prepared_transactions,
    current_setting('max_locks_per_transaction') as max_locks_per_transaction,
    encode(pg_read_binary_file('global/pg_control'), 'hex') as bytes
    from pg_control_system(), pg_control_checkpoint(), pg_control_recovery(), pg_control_init()";

fn compare_with_sql(installation: &Installation, data_directory: &Path) {
    let row = query(installation, data_directory, FROM_SQL);
    let hex = row["bytes"].as_bytes();
    let bytes: Vec<u8> = hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
    let ours = ControlFile::parse(&bytes).unwrap();
    let on_off = |value: bool| if value { "on" } else { "off" }.to_owned();
    for (column, value) in [
        ("system_identifier", ours.system_identifier.to_string()),
        ("pg_control_version", ours.control_version.to_string()),
        ("catalog_version_no", ours.catalog_version.to_string()),
        ("modified", ours.modified.to_string()),
        ("checkpoint_lsn", ours.checkpoint.to_string()),
        ("redo_lsn", ours.redo.to_string()),
        ("timeline_id", ours.timeline.to_string()),
        ("full_page_writes", if ours.full_page_writes { "t" } else { "f" }.to_owned()),
        ("checkpoint_time", ours.checkpoint_time.to_string()),
        ("min_recovery_end_lsn", ours.min_recovery_point.to_string()),
        ("min_recovery_end_timeline", ours.min_recovery_point_timeline.to_string()),
        ("backup_start_lsn", ours.backup_start.to_string()),
        ("database_block_size", ours.block_size.to_string()),
        ("blocks_per_segment", ours.blocks_per_segment.to_string()),
        ("wal_block_size", ours.wal_block_size.to_string()),
        ("bytes_per_wal_segment", ours.wal_segment_size.to_string()),
        ("data_page_checksum_version", ours.data_checksum_version.to_string()),
        ("wal_level", ours.wal_level.as_str().to_owned()),
        ("wal_log_hints", on_off(ours.wal_log_hints)),
        ("max_connections", ours.max_connections.to_string()),
        ("max_worker_processes", ours.max_worker_processes.to_string()),
        ("max_wal_senders", ours.max_wal_senders.to_string()),
        ("max_prepared_transactions", ours.max_prepared_transactions.to_string()),
        ("max_locks_per_transaction", ours.max_locks_per_transaction.to_string()),
    ] {
        assert_eq!(row[column], value, "{column} of {}", installation.version);
    }
    assert_eq!(ours.state, ClusterState::InProduction);
    assert_eq!(ours.major(), Some(installation.version.major));
}

fn compare_with_pg_controldata(installation: &Installation, data_directory: &Path) {
    let ours = read(data_directory);
    let printed = succeed(installation.command("pg_controldata").arg(data_directory));
    assert!(!printed.contains("WARNING"), "{printed}");
    let theirs: HashMap<&str, &str> = printed.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k, v.trim())).collect();
    let on_off = |value: bool| if value { "on" } else { "off" }.to_owned();
    for (name, value) in [
        ("Database system identifier", ours.system_identifier.to_string()),
        ("pg_control version number", ours.control_version.to_string()),
        ("Catalog version number", ours.catalog_version.to_string()),
        ("Database cluster state", ours.state.as_str().to_owned()),
        ("Latest checkpoint location", ours.checkpoint.to_string()),
        ("Latest checkpoint's REDO location", ours.redo.to_string()),
        ("Latest checkpoint's TimeLineID", ours.timeline.to_string()),
        ("Latest checkpoint's full_page_writes", on_off(ours.full_page_writes)),
        ("Minimum recovery ending location", ours.min_recovery_point.to_string()),
        ("Backup start location", ours.backup_start.to_string()),
        ("wal_level setting", ours.wal_level.as_str().to_owned()),
        ("wal_log_hints setting", on_off(ours.wal_log_hints)),
        ("max_connections setting", ours.max_connections.to_string()),
        ("max_worker_processes setting", ours.max_worker_processes.to_string()),
        ("max_wal_senders setting", ours.max_wal_senders.to_string()),
        ("max_prepared_xacts setting", ours.max_prepared_transactions.to_string()),
        ("max_locks_per_xact setting", ours.max_locks_per_transaction.to_string()),
        ("Database block size", ours.block_size.to_string()),
        ("Blocks per segment of large relation", ours.blocks_per_segment.to_string()),
        ("WAL block size", ours.wal_block_size.to_string()),
        ("Bytes per WAL segment", ours.wal_segment_size.to_string()),
        ("Data page checksum version", ours.data_checksum_version.to_string()),
    ] {
        assert_eq!(theirs[name], value, "{name} of {}", installation.version);
    }
}

#[test]
fn the_control_file_says_what_postgresql_says() {
    for installation in Installation::all() {
        let scratch = Scratch::new();
        for (name, options) in [("plain", no_checksums(&installation)), ("checksums", CHECKSUMS.to_vec())] {
            let data_directory = scratch.join(name);
            installation.initdb(&data_directory, &options);
            let fresh = read(&data_directory);
            assert!(fresh.is_clean_shutdown());
            assert_eq!(fresh.data_checksums(), name == "checksums");
            assert_eq!(fresh.wal_segment_size, if name == "plain" { 1 << 20 } else { 16 << 20 });
            if installation.has("pg_controldata") {
                compare_with_pg_controldata(&installation, &data_directory);
            }
            compare_with_sql(&installation, &data_directory);
            let after = read(&data_directory);
            assert!(after.is_clean_shutdown() && after.checkpoint > fresh.checkpoint);
            assert_eq!(after.system_identifier, fresh.system_identifier);
        }
    }
}

#[test]
fn a_copy_with_a_new_system_identifier_starts() {
    for installation in Installation::all() {
        let scratch = Scratch::new();
        let data_directory = scratch.join("data");
        installation.initdb(&data_directory, &no_checksums(&installation));
        let id = read(&data_directory).system_identifier + 1;
        let path = data_directory.join(CONTROL_FILE_PATH);
        let changed = control_file::with_system_identifier(&std::fs::read(&path).unwrap(), id).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().write_all(&changed).unwrap();
        let mut segments = 0;
        for entry in std::fs::read_dir(data_directory.join("pg_wal")).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_name().len() != 24 {
                continue;
            }
            let mut file = OpenOptions::new().read(true).write(true).open(entry.path()).unwrap();
            let mut header = [0; LONG_HEADER_SIZE];
            file.read_exact(&mut header).unwrap();
            if let Some(segment) = WalSegmentHeader::parse(&header) {
                assert_eq!((segment.system_identifier, segment.segment_size, segment.timeline), (id - 1, 1 << 20, 1));
                file.write_all_at(&wal_page::with_system_identifier(&header, id).unwrap(), 0).unwrap();
                segments += 1;
            }
        }
        assert!(segments > 0);
        let row = query(&installation, &data_directory, "select system_identifier from pg_control_system()");
        assert_eq!(row["system_identifier"], id.to_string(), "{}", installation.version);
        assert!(read(&data_directory).is_clean_shutdown());
    }
}

/// Checks every page of every relation: how many there are, and which are wrong.
fn check_pages(data_directory: &Path) -> (u32, Vec<String>) {
    let blocks_per_segment = read(data_directory).blocks_per_segment;
    let (mut pages, mut wrong) = (0, Vec::new());
    for entry in Walk::new(data_directory).unwrap().map(|entry| entry.unwrap()) {
        let Some(relation) = RelationFile::classify(&entry.relative).filter(|_| entry.metadata.is_file()) else { continue };
        assert_eq!(entry.metadata.len() % PAGE_SIZE as u64, 0, "{relation}");
        let mut bytes = Vec::new();
        File::open(&entry.path).unwrap().read_to_end(&mut bytes).unwrap();
        let first = relation.first_block(blocks_per_segment).unwrap();
        for (block, bytes) in (first..).zip(bytes.chunks(PAGE_SIZE)) {
            pages += 1;
            let check = Page::new(bytes).unwrap().verify(block);
            if !check.is_fine() {
                wrong.push(format!("{relation} block {block}: {check:?}"));
            }
        }
    }
    (pages, wrong)
}

#[test]
fn every_page_of_a_cluster_verifies_until_a_byte_is_flipped() {
    for installation in Installation::all() {
        let scratch = Scratch::new();
        let data_directory = scratch.join("data");
        installation.initdb(&data_directory, CHECKSUMS);
        query(&installation, &data_directory, "create table t as select g, repeat('x', 100) from generate_series(1, 20000) g");
        let (pages, wrong) = check_pages(&data_directory);
        assert!(pages > 1000, "{pages} pages of {}", installation.version);
        assert_eq!(wrong, Vec::<String>::new(), "{}", installation.version);

        let row = query(&installation, &data_directory, "select pg_relation_filepath('t') as path");
        let file = OpenOptions::new().read(true).write(true).open(data_directory.join(&row["path"])).unwrap();
        let at = 123 * PAGE_SIZE as u64 + 5000;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let (_, wrong) = check_pages(&data_directory);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with(&format!("{} block 123: WrongChecksum", row["path"])), "{wrong:?}");
    }
}
