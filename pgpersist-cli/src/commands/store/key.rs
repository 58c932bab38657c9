//! `store key`: who opens what is encrypted in the store, and the proof that somebody can.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::status::document;
use crate::context::{Context, Reading};
use crate::exit::Exit;
use crate::keys::KeyArgs;
use crate::output::printable;
use crate::privileges::AsRoot;
use crate::runtime;
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::configured;
use pgpersist_core::encryption::key_file;
use pgpersist_core::encryption::recipient::Recipient;
use pgpersist_core::encryption::settings::EncryptionSettings;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::key_ring::slot::Holder;
use pgpersist_core::logical::key_admin::{KeyFile, ListedKey};
use pgpersist_core::logical::shelf::Shelf;

/// The keys that open what is encrypted in the store: list, add, remove, rotate, test
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist store key test --identity /mnt/safe/key.txt")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key: the file is for a safe, the public half that is printed for the configuration
    #[command(before_help = "Example:\n  pgpersist store key new /mnt/safe/key.txt")]
    New {
        /// The file to make; it must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show the data keys, who opens each, and when a recovery key was tested
    #[command(before_help = "Example:\n  pgpersist store key list")]
    List,
    /// Let somebody open what was written before: wraps every data key for them; needs a key that opens these
    #[command(before_help = "Example:\n  pgpersist store key add age1… --identity key.txt")]
    Add {
        /// A public key; give more for more. Else all configured ones, and the configured passphrase
        #[arg(value_name = "RECIPIENT")]
        recipients: Vec<String>,
        #[command(flatten)]
        keys: KeyArgs,
    },
    /// Take the data keys from somebody; needs --yes. What is in dumps that were encrypted to them they can read as before
    #[command(before_help = "Example:\n  pgpersist store key remove age1… --yes")]
    Remove {
        /// A public key, or `passphrase_…` as `list` shows it
        #[arg(value_name = "RECIPIENT")]
        holder: String,
    },
    /// Make a new data key for what comes later, for those who are configured
    #[command(before_help = "Example:\n  pgpersist store key rotate")]
    Rotate,
    /// Prove that a recovery key opens everything, and record that in the store
    #[command(before_help = "Example:\n  pgpersist store key test --identity /mnt/safe/key.txt")]
    Test {
        /// The file of the private key
        #[arg(long, value_name = "FILE", required_unless_present = "passphrase_file", conflicts_with = "passphrase_file")]
        identity: Option<PathBuf>,
        /// A file with the passphrase, instead of a key
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

impl Args {
    pub(super) fn run(&self, context: &Context) -> Result<Exit> {
        match &self.action {
            Action::New { file } => new(file, context),
            Action::List => list(context),
            Action::Add { recipients, .. } => add(recipients, context),
            Action::Remove { holder } => remove(holder, context),
            Action::Rotate => rotate(context),
            Action::Test { identity, passphrase_file } => test(identity.as_deref(), passphrase_file.as_deref(), context),
        }
    }

    pub(super) fn only_looks(&self) -> bool {
        matches!(self.action, Action::List)
    }

    /// A key from a safe is often one that root alone can read, and what is written goes into the store, as the user whose that is. A
    /// rotation is remembered beside the data, and made by whose they are.
    pub(super) fn as_root(&self) -> AsRoot {
        if matches!(self.action, Action::Rotate) { AsRoot::Continue(&[]) } else { AsRoot::Stay }
    }

    pub(super) fn reading(&self) -> Reading {
        if let Action::Add { keys, .. } = &self.action { keys.reading() } else { Reading::default() }
    }
}

/// The shelf of the configured store, which must be encrypted.
fn encrypted_shelf(context: &Context) -> Result<(Shelf, EncryptionSettings)> {
    let shelf = configured::stores::shelf(context.config()?)?;
    let settings = shelf.must_encrypt()?.clone();
    Ok((shelf, settings))
}

/// Tells what would be done, where only that was asked for.
fn planned(context: &Context, steps: &[String]) -> Result<bool> {
    if context.common.dry_run {
        let text = || steps.iter().map(|step| format!("Would {}.\n", printable(step))).collect();
        context.output.write(|| json!({ "plan": steps }), text)?;
    }
    Ok(context.common.dry_run)
}

fn new(file: &Path, context: &Context) -> Result<Exit> {
    if planned(context, &[format!("make a key in {}", file.display())])? {
        return Ok(Exit::DONE);
    }
    let recipient = key_file::create(file, SystemClock.now())?;
    context.output.write(
        || json!({ "file": std::path::absolute(file).unwrap_or_else(|_| file.to_owned()), "public_key": recipient }),
        || {
            format!(
                "Public key: {recipient}\nPut {} into a safe, and test it once a year: `pgpersist store key test`.\n",
                printable(&file.display().to_string())
            )
        },
    )?;
    Ok(Exit::DONE)
}

fn list(context: &Context) -> Result<Exit> {
    let (shelf, settings) = encrypted_shelf(context)?;
    let report = runtime::block_on("`store key list`", async { shelf.key_report(&SystemClock).await })?;
    for advice in &report.advice {
        context.progress.warn(advice);
    }
    context.output.write(
        || document(&report),
        || {
            let mut text: String = report.data_keys.iter().map(|key| line(key, &settings)).collect();
            if report.data_keys.is_empty() {
                text.push_str("No data key yet: the first encrypted dump makes one.\n");
            }
            if let Some(proof) = &report.proof {
                text.push_str(&format!("Tested {}: {}\n", moment(proof.proven_at), printable(&proof.holder)));
            }
            text
        },
    )?;
    Ok(Exit::DONE)
}

fn moment(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

fn line(key: &ListedKey, settings: &EncryptionSettings) -> String {
    let mut text = format!("{}  {}\n", moment(key.made_at), key.public_key);
    for holder in &key.holders {
        let is_configured = match holder {
            Holder::Recipient(recipient) => settings.recipients.contains(recipient),
            Holder::Passphrase(_) => settings.passphrase_file.is_some(),
        };
        text.push_str(&format!("  opened by {holder}{}\n", if is_configured { "" } else { "  (not configured)" }));
    }
    for recipient in &key.missing {
        text.push_str(&format!("  NOT opened by {recipient}, which is configured\n"));
    }
    text
}

fn add(given: &[String], context: &Context) -> Result<Exit> {
    let (shelf, _) = encrypted_shelf(context)?;
    let given: Vec<Recipient> = given.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let step = |recipient: &Recipient| format!("wrap every data key in {} for {recipient}", shelf.store());
    if planned(context, &shelf.holders_to_add(&given)?.iter().map(step).collect::<Vec<_>>())? {
        return Ok(Exit::DONE);
    }
    let (added, warnings) = runtime::block_on("`store key add`", async { shelf.add_holders(&given).await })?;
    for warning in &warnings {
        context.progress.warn(warning);
    }
    context.output.write(
        || json!({ "added": added }),
        || {
            if added.is_empty() {
                "Everybody had every data key.\n".to_owned()
            } else {
                added.iter().map(|slot| format!("Added {slot}\n")).collect()
            }
        },
    )?;
    Ok(Exit::DONE)
}

fn remove(holder: &str, context: &Context) -> Result<Exit> {
    let (shelf, _) = encrypted_shelf(context)?;
    let holder: Holder = holder.parse()?;
    let slots = runtime::block_on("`store key remove`", async { shelf.slots_of_holder(&holder).await })?;
    let plan: Vec<String> = slots.iter().map(|slot| format!("delete {slot} from {}", shelf.store())).collect();
    if planned(context, &plan)? {
        return Ok(Exit::DONE);
    }
    context.consent("`store key remove`", plan)?;
    let warnings = runtime::block_on("`store key remove`", async { shelf.remove_holder(&holder, &slots).await })?;
    for warning in &warnings {
        context.progress.warn(warning);
    }
    context.output.write(
        || json!({ "removed": slots }),
        || format!("Removed {holder} from {} data keys. Dumps that were encrypted to it, and data keys that it has read, it opens as before; `pgpersist store key rotate` keeps it from what comes.\n", slots.len()),
    )?;
    Ok(Exit::DONE)
}

fn rotate(context: &Context) -> Result<Exit> {
    let (shelf, settings) = encrypted_shelf(context)?;
    if planned(context, &[format!("make a new data key in {} for {} recipients", shelf.store(), settings.recipients.len())])? {
        return Ok(Exit::DONE);
    }
    let shelf = match configured::drill::volume(context.config()?)? {
        Some(own) => shelf.remembering_keys(own),
        None => {
            context
                .progress
                .warn("without the data directory nothing remembers this key: a machine that has public keys only makes another one");
            shelf
        }
    };
    let name = runtime::block_on("`store key rotate`", async { shelf.rotate_key(&SystemClock).await })?;
    context.output.write(
        || json!({ "name": name.to_string(), "public_key": name.public(), "recipients": settings.recipients }),
        || format!("Later dumps are encrypted to the new data key {}.\n", name.public()),
    )?;
    Ok(Exit::DONE)
}

fn test(identity: Option<&Path>, passphrase_file: Option<&Path>, context: &Context) -> Result<Exit> {
    let (shelf, _) = encrypted_shelf(context)?;
    if planned(context, &[format!("open every data key and the newest dump in {} with this key, and record that", shelf.store())])? {
        return Ok(Exit::DONE);
    }
    let base = &context.sources()?.working_directory;
    let file = match (identity, passphrase_file) {
        (Some(file), _) => KeyFile::Identity(base.join(file)),
        (None, Some(file)) => KeyFile::Passphrase(base.join(file)),
        (None, None) => return Err(Error::Bug("a test without a key passed".to_owned())),
    };
    let report = runtime::block_on("`store key test`", async { shelf.test_key_file(file).await })?;
    context.output.write(
        || document(&report),
        || {
            let dump = report.dump.as_ref().map(|dump| format!(" and the newest dump, {dump}")).unwrap_or_default();
            format!("{} opens all {} data keys{dump}. This is recorded in the store.\n", report.holder, report.data_keys)
        },
    )?;
    Ok(Exit::DONE)
}
