//! This cluster's shelf in the configured store, for commands that look at what is there.

use crate::context::Context;
use pgpersist_core::configured;
use pgpersist_core::error::Result;
use pgpersist_core::logical::shelf::Shelf;

/// The shelf, and a warning where its folder is absent.
pub(crate) fn existing_shelf(context: &Context) -> Result<Shelf> {
    configured::stores::existing_shelf(context.config()?, context.progress.as_ref())
}
