//! Limits that only make sense together, or that are too small to be meant.

use crate::config::load::Merged;
use crate::config::value;
use crate::error::{Error, Result};
use crate::wording::{duration, size};

/// Two WAL segments of the usual size: a recovery needs one, and whoever cleans up some more.
const LEAST_BALLAST_BYTES: u64 = 32 * 1024 * 1024;

impl Merged {
    /// Checks what no key can be checked for by itself.
    pub(super) fn check_limits(&self) -> Result<()> {
        if let (Some(warn), Some(fail)) = (self.integer("health.disk_warn_percent"), self.integer("health.disk_fail_percent"))
            && warn > fail
        {
            let what = format!("{warn} is above `disk_fail_percent`, {fail}");
            return Err(self.wrong(
                "health.disk_warn_percent",
                &what,
                "set it below `disk_fail_percent`: a warning comes before the failure",
            ));
        }
        let (warn, fail) = (self.duration("health.disk_full_warn")?, self.duration("health.disk_full_fail")?);
        if warn < fail {
            let what = format!("{} is less than `disk_full_fail`, {}", duration(warn), duration(fail));
            return Err(self.wrong("health.disk_full_warn", &what, "set it above `disk_full_fail`: a warning comes before the failure"));
        }
        match self.integer("cluster.ballast") {
            Some(bytes) if bytes < LEAST_BALLAST_BYTES => {
                let what = format!("{} is too little to start a server with", size(bytes));
                Err(self.wrong("cluster.ballast", &what, "set it to `32MB` or more, such as `512MB`"))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, key: &str, what: &str, remedy: &str) -> Error {
        match self.values.get(key) {
            Some(found) => value::wrong(&found.source, key, what, Some(remedy.to_owned())),
            None => Error::Bug(format!("`{key}` is wrong and not set: {what}")),
        }
    }
}
