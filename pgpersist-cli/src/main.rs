//! The `pgpersist` command.
fn main() {}
