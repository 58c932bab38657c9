//! What was seen of the room in each place of a cluster: a small JSON file on the volume, written every few minutes by the
//! agent, and by each dump where there is none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::data_directory::own_folder::OwnFolder;
use crate::error::{Error, Result};
use crate::fs::{durable, leftovers};
use crate::health::checks::places::{self, Place};
use crate::health::space::forecast::Sample;

/// The format that this version writes.
const FORMAT: u32 = 1;
/// The name of the file in the folder of our own files.
const FILE_NAME: &str = "space.json";

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// How many samples are kept: up to this age, in seconds, one for each of so many seconds.
const KEPT: [(i64, i64); 3] = [(6 * HOUR, 300), (3 * DAY, HOUR), (60 * DAY, DAY)];

/// Samples of each place, by what lies there and where, in the order of their time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceHistory {
    format: u32,
    places: BTreeMap<String, Vec<Sample>>,
}

impl Default for SpaceHistory {
    fn default() -> Self {
        Self { format: FORMAT, places: BTreeMap::new() }
    }
}

impl SpaceHistory {
    /// Reads what is known; nothing where there is nothing, or nothing that can be understood: it is only a memory. Blocking.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(own: &OwnFolder) -> Result<Self> {
        let path = path(own);
        match fs::read(&path) {
            Ok(bytes) => {
                let read: Option<Self> = serde_json::from_slice(&bytes).ok();
                Ok(read.filter(|history| history.format == FORMAT).unwrap_or_default())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Self::default()),
            Err(error) => Err(Error::file("read", path, error)),
        }
    }

    /// The samples of a place.
    pub(in crate::health) fn of(&self, place: &Place) -> &[Sample] {
        self.places.get(&name(place)).map_or(&[], Vec::as_slice)
    }

    /// Adds what is seen now, and forgets what is not needed any more.
    pub(in crate::health) fn add(&mut self, places: &[Place], now: i64) {
        for place in places {
            let used_bytes = place.space.total_bytes.saturating_sub(place.space.free_bytes);
            let samples = self.places.entry(name(place)).or_default();
            // After the clock was set back, what it had seen before would be the future.
            samples.retain(|sample| sample.at < now);
            samples.push(Sample { at: now, used_bytes });
            thin(samples, now);
        }
        self.places.retain(|_, samples| samples.last().is_some_and(|last| now.saturating_sub(last.at) < KEPT[KEPT.len() - 1].0));
    }

    /// Writes it, durably. The folder of our own files must be there. Blocking.
    ///
    /// # Errors
    /// [`Error::File`].
    fn write(&self, own: &OwnFolder) -> Result<()> {
        let path = path(own);
        let text = serde_json::to_string(self).map_err(|e| Error::Bug(format!("could not write {}: {e}", path.display())))?;
        durable::write(&path, format!("{text}\n").as_bytes(), 0o600)
    }
}

/// Looks at the room of a cluster's places and remembers it. The stores are those that are folders. Blocking.
///
/// # Errors
/// [`Error::File`].
pub fn record(directory: &Path, own: &OwnFolder, stores: &[PathBuf], log_directory: &Path, clock: &dyn Clock) -> Result<()> {
    // As the check of the disk names them.
    let stores: Vec<PathBuf> = stores.iter().map(|store| places::absolute(store)).collect::<Result<_>>()?;
    let places = places::of_cluster(directory, &stores, log_directory)?;
    // Whoever was killed here left a temporary file, and a server that runs for years sweeps only when it starts.
    leftovers::sweep(own.path())?;
    let mut history = SpaceHistory::read(own)?;
    history.add(&places, clock.now().unix_timestamp());
    history.write(own)
}

/// Keeps the newest sample of each stretch of time.
fn thin(samples: &mut Vec<Sample>, now: i64) {
    let stretch = |sample: &Sample| {
        let (_, length) = KEPT.iter().find(|(age, _)| now.saturating_sub(sample.at) <= *age)?;
        Some((*length, sample.at.div_euclid(*length)))
    };
    let mut kept: Vec<Sample> = Vec::with_capacity(samples.len());
    for sample in samples.iter().filter(|sample| stretch(sample).is_some()) {
        match kept.last_mut() {
            Some(last) if stretch(last) == stretch(sample) => *last = *sample,
            _ => kept.push(*sample),
        }
    }
    *samples = kept;
}

fn name(place: &Place) -> String {
    format!("{} {}", place.role.word(), place.path.display())
}

fn path(own: &OwnFolder) -> PathBuf {
    own.path().join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::checks::places::Role;
    use crate::health::checks::places::tests::place;

    const LINE: &str = "1 1 8:1 / /app rw - ext4 /dev/sda1 rw";

    #[test]
    fn months_of_samples_stay_few_and_keep_their_reach() {
        let (data, mut history) = (place(Role::Data, "/app/pgdata", LINE), SpaceHistory::default());
        let end = 100 * DAY;
        for at in (0..=end).step_by(600) {
            history.add(std::slice::from_ref(&data), at);
        }
        let samples = history.of(&data);
        assert!(samples.len() < 180, "{}", samples.len());
        assert!(samples.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert!(end - samples[0].at > 58 * DAY && samples.last().unwrap().at == end);
        let of_last_hours = samples.iter().filter(|sample| end - sample.at <= 6 * HOUR).count();
        assert!((35..=38).contains(&of_last_hours), "{of_last_hours}");
    }

    #[test]
    fn what_is_gone_is_forgotten_and_the_future_too() {
        let (data, store) = (place(Role::Data, "/app/pgdata", LINE), place(Role::Store, "/backups", LINE));
        let mut history = SpaceHistory::default();
        history.add(&[data.clone(), store.clone()], 10 * DAY);
        history.add(std::slice::from_ref(&data), 9 * DAY);
        assert_eq!(history.of(&data).iter().map(|sample| sample.at).collect::<Vec<_>>(), [9 * DAY]);
        history.add(std::slice::from_ref(&data), 71 * DAY);
        assert_eq!((history.of(&data).len(), history.of(&store).len()), (1, 0));
    }

    #[test]
    fn what_is_written_is_read_again_and_garbage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnFolder::locate(&folder.path().join("data")).unwrap();
        assert_eq!(SpaceHistory::read(&own).unwrap(), SpaceHistory::default());
        own.create().unwrap();
        let mut history = SpaceHistory::default();
        history.add(&[place(Role::Data, "/app/pgdata", LINE)], 5);
        history.write(&own).unwrap();
        assert_eq!(SpaceHistory::read(&own).unwrap(), history);
        durable::write(&path(&own), b"{\"format\":9,\"places\":{}}", 0o600).unwrap();
        assert_eq!(SpaceHistory::read(&own).unwrap(), SpaceHistory::default());
    }
}
