//! Stores in a cloud: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! `backup_store` is the store; `s3`, `gcs` and `azure` find credentials, sign, and say what is special about each; `transport` sends
//! requests and repeats them; `addressee` is whom one goes to; `requests` are those that `object_store` has no word for; `outcome` is what an attempt came to,
//! `trouble` why one failed, and `errors` what that means for the caller.

mod addressee;
#[cfg(feature = "s3")]
mod aws_container;
#[cfg(feature = "s3")]
mod aws_profile;
#[cfg(feature = "azure")]
mod azure;
pub mod backup_store;
#[cfg(feature = "azure")]
mod connection_string;
mod errors;
#[cfg(feature = "gcs")]
mod gcs;
mod habits;
mod locked;
mod observe;
mod opened;
mod outcome;
mod pace;
mod protection;
mod reading;
mod requests;
#[cfg(feature = "s3")]
mod s3;
mod transport;
mod trouble;
mod tuning;
mod unfinished;
mod upload;
