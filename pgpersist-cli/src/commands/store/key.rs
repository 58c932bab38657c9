//! `store key`: who opens what is encrypted in the store, and the proof that somebody can.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};
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
use pgpersist_core::encryption::identity::Identity;
use pgpersist_core::encryption::key_file;
use pgpersist_core::encryption::passphrase::Passphrase;
use pgpersist_core::encryption::recipient::Recipient;
use pgpersist_core::encryption::settings::EncryptionSettings;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::key_ring::ring::DataKey;
use pgpersist_core::key_ring::slot::Holder;
use pgpersist_core::logical::recovery_key::RecoveryKey;
use pgpersist_core::logical::shelf::Shelf;
use pgpersist_core::workers;

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
    match shelf.encryption().filter(|settings| settings.encrypts()).cloned() {
        Some(settings) => Ok((shelf, settings)),
        None => Err(Error::invalid(
            format!("nothing in {} is encrypted", shelf.store()),
            "name `recipients` in its `encryption`: `pgpersist store key new FILE` makes a key",
        )),
    }
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
    let (data_keys, known) =
        runtime::block_on("`store key list`", async { Ok((shelf.key_ring()?.data_keys().await?, shelf.recovery_key().await?)) })?;
    let proof = if let RecoveryKey::Tested(proof) = &known { Some(proof) } else { None };
    if let Some((what, remedy)) = known.advice(SystemClock.now()) {
        context.progress.warn(&format!("{what}; {remedy}"));
    }
    context.output.write(
        || json!({ "data_keys": data_keys.iter().map(|key| listed(key, &settings)).collect::<Vec<_>>(), "proof": proof }),
        || {
            let mut text: String = data_keys.iter().map(|key| line(key, &settings)).collect();
            if data_keys.is_empty() {
                text.push_str("No data key yet: the first encrypted dump makes one.\n");
            }
            if let Some(proof) = proof {
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

/// The configured recipients that a data key is not wrapped for.
fn missing(key: &DataKey, settings: &EncryptionSettings) -> Vec<Recipient> {
    let have = key.recipients();
    settings.recipients.iter().filter(|recipient| !have.contains(recipient)).copied().collect()
}

fn listed(key: &DataKey, settings: &EncryptionSettings) -> Value {
    let holders: Vec<_> = key.slots.iter().map(|slot| slot.holder.to_string()).collect();
    json!({
        "name": key.name.to_string(),
        "made_at": moment(key.name.made_at()),
        "public_key": key.name.public(),
        "holders": holders,
        "missing": missing(key, settings),
    })
}

fn line(key: &DataKey, settings: &EncryptionSettings) -> String {
    let mut text = format!("{}  {}\n", moment(key.name.made_at()), key.name.public());
    for slot in &key.slots {
        let is_configured = match &slot.holder {
            Holder::Recipient(recipient) => settings.recipients.contains(recipient),
            Holder::Passphrase(_) => settings.passphrase_file.is_some(),
        };
        text.push_str(&format!("  opened by {}{}\n", slot.holder, if is_configured { "" } else { "  (not configured)" }));
    }
    for recipient in missing(key, settings) {
        text.push_str(&format!("  NOT opened by {recipient}, which is configured\n"));
    }
    text
}

fn add(given: &[String], context: &Context) -> Result<Exit> {
    let (shelf, settings) = encrypted_shelf(context)?;
    let given: Vec<Recipient> = given.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let all = given.is_empty();
    let recipients = if all { settings.recipients.clone() } else { given };
    let step = |recipient: &Recipient| format!("wrap every data key in {} for {recipient}", shelf.store());
    if planned(context, &recipients.iter().map(step).collect::<Vec<_>>())? {
        return Ok(Exit::DONE);
    }
    let added = runtime::block_on("`store key add`", async {
        let passphrase = if all { passphrase(&settings).await? } else { None };
        let identities = shelf.identities().await?;
        shelf.key_ring()?.add(&recipients, passphrase.as_ref(), &identities).await
    })?;
    for stranger in recipients.iter().filter(|recipient| !settings.recipients.contains(recipient)) {
        context.progress.warn(&format!("{stranger} is not among the configured `recipients`, so later data keys are not for it"));
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

async fn passphrase(settings: &EncryptionSettings) -> Result<Option<Passphrase>> {
    let settings = settings.clone();
    workers::run(move || settings.passphrase()).await
}

fn remove(holder: &str, context: &Context) -> Result<Exit> {
    let (shelf, settings) = encrypted_shelf(context)?;
    let holder: Holder = holder.parse()?;
    let ring = shelf.key_ring()?;
    let slots = runtime::block_on("`store key remove`", async { ring.slots_of(&holder).await })?;
    let plan: Vec<String> = slots.iter().map(|slot| format!("delete {slot} from {}", shelf.store())).collect();
    if planned(context, &plan)? {
        return Ok(Exit::DONE);
    }
    context.consent("`store key remove`", plan)?;
    runtime::block_on("`store key remove`", async { ring.remove(&slots).await })?;
    if matches!(&holder, Holder::Recipient(recipient) if settings.recipients.contains(recipient)) {
        context.progress.warn(&format!("{holder} is still configured, so the next data key is for it: take it out of `recipients`"));
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
    let name = runtime::block_on("`store key rotate`", async {
        shelf.key_ring()?.rotate(&settings, shelf.key_memory(), SystemClock.now()).await
    })?;
    context.output.write(
        || json!({ "name": name.to_string(), "public_key": name.public(), "recipients": settings.recipients }),
        || format!("Later dumps are encrypted to the new data key {}.\n", name.public()),
    )?;
    Ok(Exit::DONE)
}

fn test(identity: Option<&Path>, passphrase_file: Option<&Path>, context: &Context) -> Result<Exit> {
    let (shelf, settings) = encrypted_shelf(context)?;
    if planned(context, &[format!("open every data key and the newest dump in {} with this key, and record that", shelf.store())])? {
        return Ok(Exit::DONE);
    }
    let base = &context.sources()?.working_directory;
    let identities: Vec<Identity> = match (identity, passphrase_file) {
        (Some(file), _) => key_file::identities(&base.join(file))?.into_iter().map(Identity::Key).collect(),
        (None, Some(file)) => vec![Identity::Passphrase(key_file::passphrase(&base.join(file))?)],
        (None, None) => Vec::new(),
    };
    // Of a file with several keys one may be that of the store.
    let is_configured = |identity: &&Identity| matches!(identity, Identity::Key(key) if settings.recipients.contains(&key.recipient()));
    let chosen = identities.iter().find(is_configured).or(identities.first()).cloned();
    let chosen = chosen.ok_or_else(|| Error::Bug("a key without a file passed".to_owned()))?;
    let report = runtime::block_on("`store key test`", async { shelf.test_key(chosen).await })?;
    context.output.write(
        || document(&report),
        || {
            let dump = report.dump.as_ref().map(|dump| format!(" and the newest dump, {dump}")).unwrap_or_default();
            format!("{} opens all {} data keys{dump}. This is recorded in the store.\n", report.holder, report.data_keys)
        },
    )?;
    Ok(Exit::DONE)
}
