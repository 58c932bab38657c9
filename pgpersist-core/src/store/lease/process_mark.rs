//! [`ProcessMark`]: which process of which machine held a lease, so that one of this machine that is gone is known at once.

use std::fs;

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::fs::boot;

/// A process, told from every other one that has its number at another time or in another container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ProcessMark {
    boot: String,
    /// The namespace that its number belongs to, as the kernel names it.
    namespace: String,
    pid: u32,
    /// When it began, in ticks since the boot; see *proc_pid_stat(5)*, field 22.
    began: u64,
}

impl ProcessMark {
    /// This process. Nothing where the machine does not tell, as without `/proc`: then its death is only known by its silence.
    pub(super) fn own() -> Option<Self> {
        let (boot, namespace) = here()?;
        let pid = std::process::id();
        Some(Self { boot, namespace, pid, began: began(pid)? })
    }

    /// Whether it is certain that it has ended. Of another machine, another boot or another container nothing is certain.
    pub(super) fn is_gone(&self) -> bool {
        if here().is_none_or(|(boot, namespace)| boot != self.boot || namespace != self.namespace) {
            return false;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        match began(self.pid) {
            Some(began) => began != self.began,
            // What cannot be read may be hidden (`hidepid`); what does not exist says so.
            None => test_kill_process(pid) == Err(rustix::io::Errno::SRCH),
        }
    }
}

fn here() -> Option<(String, String)> {
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_owned();
    Some((boot::boot_id().ok()?, namespace))
}

fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and parentheses; what follows the last one does not. Field 3 comes first there.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    // A zombie holds nothing any more.
    if fields.next()? == "Z" {
        return Some(0);
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_has_ended_is_known_and_one_that_lives_is_not_taken_for_dead() {
        let own = ProcessMark::own().unwrap();
        assert!(!own.is_gone());
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let mark = ProcessMark { pid: child.id(), began: began(child.id()).unwrap(), ..own.clone() };
        assert!(!mark.is_gone());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(mark.is_gone());
        assert!(ProcessMark { began: own.began + 1, ..own.clone() }.is_gone(), "the number was given to another one");
        for other in [ProcessMark { boot: "another".into(), ..mark.clone() }, ProcessMark { namespace: "another".into(), ..mark }] {
            assert!(!other.is_gone(), "{other:?}");
        }
    }
}
