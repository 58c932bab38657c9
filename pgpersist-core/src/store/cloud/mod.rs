//! Stores in a cloud: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! `backup_store` is the store; `s3`, `gcs` and `azure` find credentials and say what is special about each; `transport` sends
//! requests and repeats them; `trouble` is why one failed, and `errors` what that means for the caller.

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
mod observe;
mod opened;
mod pace;
#[cfg(feature = "s3")]
mod s3;
mod transport;
mod trouble;
mod tuning;
mod upload;
