//! Where one victim lives: a volume with a data directory, beside things that nobody may touch.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::scratch::{Run, Scratch};
use crate::support::volume::{FileSystem, Volume, must};
use crate::support::{judge, processes, shared_memory};

/// The server's port. Its sockets are private and it listens on nothing else, so any number is free.
const PORT: u16 = 5432;
/// The port of a copy that is only asked something.
const COPY: u16 = 5433;

/// Where the data directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A name in a folder that is ours: it can be renamed into place.
    Folder,
    /// It is the mount point of a volume of its own, which may have a `lost+found` in it.
    IsVolume(FileSystem),
    /// A name in a volume of its own.
    OnVolume(FileSystem),
}

/// A place, its configuration, and the processes in it. Dropping it ends them and removes all.
#[derive(Debug)]
pub(crate) struct Yard {
    /// Before the scratch folder that it is mounted in, so that it is unmounted first.
    pub(crate) volume: Option<Volume>,
    pub(crate) scratch: Scratch,
    pub(crate) data: PathBuf,
    store: PathBuf,
    /// A server runs here and is nobody's orphan.
    pub(crate) serves: bool,
    by_hand: RefCell<Option<Child>>,
    untouchable: Vec<(PathBuf, String)>,
}

impl Yard {
    /// Makes one; `None` where the kernel does not let us mount, which is told.
    pub(crate) fn new(place: Place) -> Option<Self> {
        let scratch = Scratch::new();
        let (volume, data) = match place {
            Place::Folder => {
                let folder = scratch.path().join("volume");
                std::fs::create_dir(&folder).unwrap();
                judge::give(&folder);
                (None, folder.join("pgdata"))
            }
            Place::IsVolume(file_system) => {
                let volume = Volume::create(scratch.path(), "volume", file_system, 400)?;
                let data = volume.path().to_owned();
                (Some(volume), data)
            }
            Place::OnVolume(file_system) => {
                let volume = Volume::create(scratch.path(), "volume", file_system, 600)?;
                judge::give(volume.path());
                let data = volume.path().join("pgdata");
                (Some(volume), data)
            }
        };
        let store = if matches!(place, Place::IsVolume(_)) { scratch.path() } else { data.parent().unwrap() }.join("store");
        let sockets = scratch.path().join("s");
        std::fs::create_dir(&sockets).unwrap();
        judge::give(&sockets);
        let mut yard = Self { scratch, data, volume, store, serves: false, by_hand: RefCell::new(None), untouchable: Vec::new() };
        yard.plant_untouchables(place);
        let text = format!(
            "[[store]]\nurl = \"{}\"\n[cluster]\nport = {PORT}\ndata_directory = \"{}\"\ndatabases = [\"shop\"]\n\
             [cluster.settings]\nlisten_addresses = \"\"\nunix_socket_directories = \"{}\"\nshared_buffers = \"16MB\"\n\
             dynamic_shared_memory_type = \"mmap\"\n",
            yard.store.display(),
            yard.data.display(),
            sockets.display()
        );
        yard.scratch.write("pgpersist.toml", &text);
        Some(yard)
    }

    /// Somebody else's files, in each folder where the command works.
    fn plant_untouchables(&mut self, place: Place) {
        let parent = self.data.parent().unwrap();
        let mut folders = vec![parent.join("somebody's own")];
        if matches!(place, Place::IsVolume(_)) && self.data.join("lost+found").exists() {
            folders.push(self.data.join("lost+found"));
        }
        for folder in folders {
            let script = "mkdir -p \"$1/deeper\" && printf 'the only copy' >\"$1/deeper/thesis.tex\" && ln -s deeper \"$1/link\" && chmod 0750 \"$1\"";
            must(Command::new("sh").args(["-c", script, "sh"]).arg(&folder));
            self.untouchable.push((folder.clone(), judge::fingerprint(&folder)));
        }
    }

    /// Where the server's socket is.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.scratch.path().join("s")
    }

    /// A command that is going to be killed. Nobody reads what it says: it goes to a file.
    pub(crate) fn victim(&self, arguments: &[&str]) -> Command {
        let mut command = self.scratch.command();
        command.args(arguments);
        self.doom(&mut command);
        command
    }

    /// Lets a command and its children be told from a server that serves on.
    pub(crate) fn doom(&self, command: &mut Command) {
        let said = std::fs::File::options().append(true).create(true).open(self.scratch.path().join("said")).unwrap();
        command.env("DOOMED", self.victims()).stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    }

    /// Gives the folders to the user who owns the cluster, which root's pgpersist does by itself.
    pub(crate) fn hand_over(&self) {
        let Some(user) = judge::server_user() else { return };
        must(Command::new("mkdir").arg("-p").arg(&self.store));
        for folder in [&self.data, &self.store].into_iter().filter(|folder| folder.exists()) {
            must(Command::new("chown").arg(format!("{user}:")).arg(folder));
        }
    }

    /// The program, where the cluster's user can reach it: the folder where it was built may be closed to others.
    pub(crate) fn reachable_program(&self) -> PathBuf {
        let copy = self.scratch.path().join("pgpersist");
        if !copy.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_pgpersist"), &copy).unwrap();
        }
        copy
    }

    /// Where strace writes.
    pub(crate) fn trace(&self) -> PathBuf {
        self.scratch.path().join("trace")
    }

    /// Where dumps go.
    pub(crate) fn store(&self) -> PathBuf {
        self.store.clone()
    }

    /// Starts the server that the victims work with.
    pub(crate) fn serve(&mut self) {
        self.run(&["start"]);
        self.serves = true;
    }

    /// Lets roles that are no users of the system in by their passwords, as the loading role needs it. The owner needs none.
    pub(crate) fn let_passwords_in(&self) {
        let user = judge::server_user().map_or_else(|| must(Command::new("id").arg("-un")).trim().to_owned(), str::to_owned);
        let script = "printf 'local all \"%s\" peer\\nlocal all all scram-sha-256\\n' \"$2\" >>\"$1.new\" && cat \"$1\" >>\"$1.new\" && cat \"$1.new\" >\"$1\" && rm \"$1.new\"";
        must(Command::new("sh").args(["-c", script, "sh"]).arg(self.data.join("pg_hba.conf")).arg(user));
    }

    /// psql, ready to be told what to do.
    pub(crate) fn psql(&self, database: &str) -> Command {
        judge::psql(&self.sockets(), PORT, database)
    }

    /// The server, started by hand, with options of its own.
    pub(crate) fn start_by_hand(&self, options: &[&str]) {
        let mut command = judge::program("postgres");
        command.arg("-D").arg(&self.data).args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Whoever ends the processes of this place reaps it as well.
        *self.by_hand.borrow_mut() = Some(command.spawn().unwrap());
        let began = Instant::now();
        while !self.psql("shop").args(["-c", "SELECT"]).stderr(Stdio::null()).status().unwrap().success() {
            assert!(began.elapsed() < Duration::from_secs(60), "the server by hand never came up\n{}", self.describe());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The power of the volume fails, and with it all processes.
    pub(crate) fn cut_the_power(&self) {
        self.volume.as_ref().unwrap().cut_the_power();
        self.end_processes();
    }

    /// The power is back.
    pub(crate) fn boot(&mut self) {
        self.volume.as_mut().unwrap().boot();
    }

    /// What is on the volume now survives.
    pub(crate) fn sync(&self) {
        must(Command::new("sync").arg("--file-system").arg(self.volume.as_ref().unwrap().path()));
    }

    /// The files with a dump's name.
    pub(crate) fn dumps(&self) -> Vec<PathBuf> {
        let found = must(Command::new("find").arg(&self.store).args(["-name", "backup_*.sql.gz"]));
        let mut dumps: Vec<PathBuf> = found.lines().map(PathBuf::from).collect();
        dumps.sort();
        dumps
    }

    /// What victims bear.
    pub(crate) fn victims(&self) -> PathBuf {
        self.scratch.path().join("victims")
    }

    /// Runs a command that must end well.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let run = self.scratch.run(arguments, &[]);
        assert_eq!(run.code, Some(0), "`pgpersist {}` did not end well: {run:?}\n{}", arguments.join(" "), self.describe());
        run
    }

    /// Asks the server.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        must(self.psql(database).args(["-c", sql])).trim_end().to_owned()
    }

    /// Makes what a kill left look older than the time that a writer may still be at work.
    pub(crate) fn age_leftovers(&self) {
        for folder in [self.data.parent().unwrap(), &self.store] {
            if folder.exists() {
                must(Command::new("find").arg(folder).args([
                    "-name",
                    "*.pgpersist-tmp",
                    "-exec",
                    "touch",
                    "-d",
                    "2 minutes ago",
                    "{}",
                    "+",
                ]));
            }
        }
    }

    /// Nothing that was somebody else's has changed.
    pub(crate) fn judge_untouched(&self) {
        for (folder, before) in &self.untouchable {
            assert_eq!(&judge::fingerprint(folder), before, "{} was touched", folder.display());
        }
    }

    /// The cluster starts, serves its database, stops cleanly, and nothing half-made stands anywhere.
    pub(crate) fn judge_cluster(&self) {
        self.judge_cluster_that_answers("SELECT current_database()", "shop");
    }

    /// The same of one whose database answers a question so.
    pub(crate) fn judge_cluster_that_answers(&self, question: &str, answer: &str) {
        self.run(&["start"]);
        assert_eq!(self.sql("shop", question), answer);
        self.run(&["stop"]);
        assert_eq!(judge::controldata(&self.data, "Database cluster state"), "shut down");
        judge::checksums_hold(&self.data);
        self.judge_no_leftovers();
        self.judge_untouched();
    }

    /// No half-made cluster stands under the data directory's name: where there is a control file, PostgreSQL takes it for
    /// whole, and a copy of these files serves.
    pub(crate) fn judge_what_stands(&self, database: &str, question: &str, answer: &str) {
        // As long as somebody works in it, or is about to, its files are not all of one moment.
        let at_work = [&self.data, &self.victims()].iter().any(|mark| !processes::bearing(mark).is_empty());
        if !self.data.join("global/pg_control").exists() || at_work {
            return;
        }
        judge::controldata(&self.data, "Database system identifier");
        assert_eq!(self.ask_a_copy(&self.data, database, question), answer, "what stands there does not hold what it should");
    }

    /// Starts a copy of a directory's files, also of one whose control file was set aside, and asks it.
    pub(crate) fn ask_a_copy(&self, directory: &Path, database: &str, question: &str) -> String {
        let copy = self.scratch.path().join("copy");
        let script = "cp -a \"$1\" \"$2\" && cd \"$2\" && rm -f postmaster.pid && if [ -e global/pg_control.migrated ]; then \
                      mv global/pg_control.migrated global/pg_control; fi";
        must(Command::new("sh").args(["-c", script, "sh"]).arg(directory).arg(&copy));
        let options = format!(
            "-c listen_addresses='' -c port={COPY} -c unix_socket_directories='{}' -c fsync=off -c shared_buffers=16MB \
             -c dynamic_shared_memory_type=mmap -c logging_collector=off -c log_destination=stderr -c data_directory='{}'",
            self.sockets().display(),
            copy.display()
        );
        let log = self.sockets().join("copy.log");
        let pg_ctl = |words: &[&str]| {
            let mut command = judge::program("pg_ctl");
            let status = command.arg("-D").arg(&copy).arg("-l").arg(&log).args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.unwrap().success(), "pg_ctl {words:?}: {}", std::fs::read_to_string(&log).unwrap_or_default());
        };
        pg_ctl(&["-w", "-t", "60", "-o", &options, "start"]);
        let answer = must(judge::psql(&self.sockets(), COPY, database).args(["-c", question])).trim_end().to_owned();
        pg_ctl(&["-w", "-m", "fast", "stop"]);
        must(Command::new("rm").arg("-rf").arg(&copy));
        answer
    }

    /// No staging, no marker, no temporary file.
    pub(crate) fn judge_no_leftovers(&self) {
        let root = self.volume.as_ref().map_or(self.data.parent().unwrap(), Volume::path);
        for folder in [root, &self.store].into_iter().filter(|folder| folder.exists()) {
            for end in [".pgpersist-tmp", "staging", "half-made.json", ".pg_control.last"] {
                let left = judge::names_ending(folder, end);
                assert!(left.is_empty(), "left behind: {left:?}");
            }
        }
    }

    /// What there is, for the message of a test that fails.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for folder in [self.data.parent().unwrap(), &self.data] {
            let listed = Command::new("find")
                .arg(folder)
                .args(["-maxdepth", "3", "-not", "-path", "*/base/*", "-not", "-path", "*/global/[0-9]*", "-printf", "%y %m %s %u %p\n"])
                .output();
            text.push_str(&listed.map_or_else(|e| e.to_string(), |listed| String::from_utf8_lossy(&listed.stdout).into_owned()));
        }
        for process in processes::bearing(self.scratch.path()) {
            text.push_str(&format!("process {}\n", process.title()));
        }
        text
    }

    /// Ends all processes of this place.
    pub(crate) fn end_processes(&self) {
        processes::kill_all(self.scratch.path());
        if let Some(mut server) = self.by_hand.borrow_mut().take() {
            let _ = server.wait();
        }
    }

    /// Waits until the processes that a killed command left have ended by themselves.
    pub(crate) fn wait_for_orphans(&self) {
        let mark = if self.serves { self.victims() } else { self.scratch.path().to_owned() };
        let killed = processes::wait_until_gone(&mark, Duration::from_secs(60));
        assert!(killed.is_empty(), "orphans that did not end by themselves: {killed:?}");
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.end_processes();
        shared_memory::remove();
    }
}
