//! Debian's split layout: the configuration comes along, and its tools are used.

use super::*;

/// Debian's layout in the scratch folder: no configuration beside the data.
fn debian(place: &Place) -> PathBuf {
    let folder = own(&place.scratch, "etc/15/main");
    for name in ["etc", "etc/15", "etc/15/main/conf.d", "certificates"] {
        own(&place.scratch, name);
    }
    let moved = fs::read_to_string(place.source.join("pg_hba.conf")).unwrap();
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::remove_file(place.source.join(name)).unwrap();
    }
    let text = format!(
        "data_directory = '{source}'\nhba_file = '{etc}/pg_hba.conf'\nident_file = '{etc}/pg_ident.conf'\n\
         external_pid_file = '{etc}/15-main.pid'\nport = 5432\nunix_socket_directories = '{sockets}'\nssl = on\n\
         ssl_cert_file = '{certificates}/ours.pem'\nssl_key_file = '{certificates}/ours.key'\n\
         log_directory = '/var/log/postgresql'\ncluster_name = 'main'\ninclude_dir = 'conf.d'\n",
        source = place.source.display(),
        etc = folder.display(),
        sockets = place.scratch.path().display(),
        certificates = place.scratch.join("certificates").display(),
    );
    write(&folder.join("postgresql.conf"), &text);
    write(&folder.join("pg_hba.conf"), &format!("# Debian's\n{moved}"));
    write(&folder.join("pg_ident.conf"), "");
    write(&folder.join("start.conf"), "# how\n\nauto\n");
    write(&folder.join("conf.d/10-work.conf"), "work_mem = '5MB'\ninclude 'more.inc'\n");
    write(&folder.join("conf.d/more.inc"), "maintenance_work_mem = '70MB'\n");
    write(&folder.join("conf.d/ignored.txt"), "nonsense\n");
    let certificates = place.scratch.join("certificates");
    succeed(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test", "-keyout"])
            .arg(certificates.join("ours.key"))
            .arg("-out")
            .arg(certificates.join("ours.pem")),
    );
    for name in ["ours.key", "ours.pem"] {
        fs::set_permissions(certificates.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        give(&certificates.join(name));
    }
    folder
}

#[tokio::test]
async fn debians_configuration_comes_along_and_nothing_outside_is_needed() {
    let place = Place::new().await;
    let etc = debian(&place);
    let image = hashes(&place.scratch.join("etc"));
    let report = place.migrate().await.unwrap();
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let main = fs::read_to_string(etc.join("postgresql.conf")).unwrap();
    assert!(main.contains(&format!("\ndata_directory = '{}'", place.target.display())) || main.starts_with("data_directory = "), "{main}");
    assert!(main.contains(place.target.to_str().unwrap()) && !main.contains(&format!("'{}'", place.source.display())));
    assert!(fs::read_to_string(etc.join("start.conf")).unwrap().contains("manual"));
    assert!(place.target.join("conf.d/10-work.conf").exists() && !place.target.join("conf.d/ignored.txt").exists());
    // The pod is replaced: /etc is the image's again, and all else but the volume is gone.
    for command in report.undo.iter().filter(|command| command.contains("/etc/15/main")) {
        succeed(Command::new("sh").args(["-c", command]));
    }
    assert_eq!(hashes(&place.scratch.join("etc")), image, "the undo brings /etc back");
    for name in ["etc", "certificates"] {
        remove(&place.scratch.join(name));
    }
    remove(&place.source);
    assert_eq!(place.serve_target().await, "1000|500500");
    for (setting, value) in [
        ("work_mem", "5MB"),
        ("maintenance_work_mem", "70MB"),
        ("ssl", "on"),
        ("cluster_name", "main"),
        ("external_pid_file", ""),
        ("log_directory", "log"),
    ] {
        assert_eq!(place.psql(&format!("show {setting}")), value, "{setting}");
    }
    for setting in ["hba_file", "ident_file", "config_file"] {
        assert!(place.psql(&format!("show {setting}")).starts_with(place.target.to_str().unwrap()));
    }
}

#[tokio::test]
async fn a_server_of_debians_tools_is_stopped_and_stays_down() {
    let place = Place::new().await;
    let etc = debian(&place);
    let mut postgres = place.installation.command("postgres");
    postgres.arg("-D").arg(&place.source).arg("-c").arg(format!("config_file={}", etc.join("postgresql.conf").display()));
    let mut server = postgres.args(["-c", "listen_addresses="]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while !Presence::of(&place.source).unwrap().running().is_some_and(|file| file.is_ready()) {
        assert!(Instant::now() < deadline && server.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    let planned = plan(&place.cluster(&place.source), &place.cluster(&place.target), &place.options()).await.unwrap();
    assert!(planned.steps.iter().any(|step| step.contains(etc.to_str().unwrap())), "{:?}", planned.steps);
    let ended = tokio::task::spawn_blocking(move || server.wait());
    let report = place.migrate_with(&MigrateOptions { consent: true, ..place.options() }).await.unwrap();
    assert!(report.downtime_s > 0.0 && ended.await.unwrap().is_ok());
    assert_eq!(place.serve_target().await, "1000|500500");
    assert_eq!(place.psql("show work_mem"), "5MB");
}

#[tokio::test]
async fn programs_of_another_major_are_told_apart_before_anything_is_touched() {
    let place = Place::new().await;
    let bin = own(&place.scratch, "bin");
    write(&bin.join("postgres"), "#!/bin/sh\necho 'postgres (PostgreSQL) 13.1'\n");
    fs::set_permissions(bin.join("postgres"), fs::Permissions::from_mode(0o755)).unwrap();
    let other = Installation { bin, ..place.installation.clone() };
    let target = cluster(&place.target, place.scratch.path(), &other);
    let error = migrate(&place.cluster(&place.source), &target, &place.options(), &silent()).await.unwrap_err();
    assert!(matches!(error, Error::WrongMajor { .. }), "{error}");
    assert!(!place.scratch.join("volume/.pgpersist").exists());
}

#[tokio::test]
async fn a_key_that_cannot_be_read_turns_tls_off_with_a_warning() {
    let place = Place::new().await;
    debian(&place);
    fs::remove_file(place.scratch.join("certificates/ours.key")).unwrap();
    let report = place.migrate().await.unwrap();
    assert!(report.warnings.iter().any(|warning| warning.contains("ours.key")), "{:?}", report.warnings);
    assert_eq!(place.serve_target().await, "1000|500500");
    assert_eq!(place.psql("show ssl"), "off");
}

#[tokio::test]
async fn an_adopted_directory_gets_debians_configuration() {
    let place = Place::new().await;
    debian(&place);
    let etc = place.scratch.join("etc");
    let carried = pgpersist_core::migrate::debian::carry_configuration(&etc, &place.source).unwrap().unwrap();
    assert_eq!(carried.port, Some(5432));
    assert_eq!(pgpersist_core::migrate::debian::carry_configuration(&etc, &place.source).unwrap(), None);
    remove(&etc);
    place.start(&place.source).await;
    assert_eq!(place.psql("show work_mem"), "5MB");
}
