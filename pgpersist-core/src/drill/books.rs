//! The drill's own tables: accounts whose balances have a known sum, and double entries that explain each of them.
//!
//! Everything lies in a database of its own, so a drill on a live cluster touches nobody's data.

use crate::drill::dice::Dice;
use crate::drill::ledger::{TransactionName, Transfer};
use crate::error::{Error, Result};
use crate::pg::quote;
use crate::server::session::Session;

/// The database that a drill makes for itself.
pub const DATABASE: &str = "pgpersist_drill";
/// How many accounts there are: few enough that writers meet on a row now and then, as in life.
pub const ACCOUNTS: u32 = 1_000;
/// What each account holds at first, in the smallest unit.
pub const OPENING_BALANCE: i64 = 1_000_000;

/// What marks the database as a drill's, and is looked for after each recovery.
pub fn marker(seed: u64) -> String {
    format!("crash drill, seed {seed}")
}

/// The sum of all balances, which no transfer changes.
pub fn sum_of_balances() -> i64 {
    i64::from(ACCOUNTS) * OPENING_BALANCE
}

/// What a writer's transaction does, by the seed and its name alone.
pub fn transfer(seed: u64, name: TransactionName) -> Transfer {
    let mut dice = Dice::new(seed, (u64::from(name.writer) << 40) + name.sequence);
    let from = dice.below(u64::from(ACCOUNTS)) as u32;
    let distance = 1 + dice.below(u64::from(ACCOUNTS) - 1) as u32;
    Transfer { from: 1 + from, to: 1 + (from + distance) % ACCOUNTS, amount: 1 + dice.below(10_000) as i64 }
}

/// Makes the database. One that is there belongs to somebody, or to an interrupted drill; neither is ours to drop.
///
/// # Errors
/// [`Error::Conflict`] when it exists; [`Error::Sql`].
pub(crate) async fn create_database(administration: &Session) -> Result<()> {
    if administration.databases().await?.iter().any(|name| name == DATABASE) {
        return Err(Error::conflict(
            format!("the database `{DATABASE}` exists already, perhaps from a drill that was interrupted"),
            format!("look into it, and drop it: DROP DATABASE {DATABASE}"),
        ));
    }
    let statement = format!("CREATE DATABASE {} TEMPLATE template0", quote::identifier(DATABASE));
    administration.execute("create the drill's database", &statement).await
}

/// Drops the database again, with whoever is still connected to it.
///
/// # Errors
/// [`Error::Sql`].
pub(crate) async fn drop_database(administration: &Session) -> Result<()> {
    let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote::identifier(DATABASE));
    administration.execute("drop the drill's database", &statement).await
}

/// Fills the new database. All of it is committed synchronously, whatever the server's default says.
///
/// # Errors
/// [`Error::Sql`].
pub(crate) async fn open(session: &Session, seed: u64, writers: u32) -> Result<()> {
    // No primary key on entries' amounts: a row that stands there twice must be seen, not prevented.
    let statements = format!(
        "SET synchronous_commit = on;
         BEGIN;
         CREATE SCHEMA drill;
         CREATE TABLE drill.account (id int PRIMARY KEY, balance bigint NOT NULL);
         CREATE TABLE drill.entry (writer int NOT NULL, sequence bigint NOT NULL, leg int NOT NULL, account int NOT NULL,
                                   amount bigint NOT NULL, xid bigint NOT NULL);
         CREATE INDEX entry_by_name ON drill.entry (writer, sequence, leg);
         CREATE INDEX entry_by_account ON drill.entry (account);
         CREATE TABLE drill.writer (id int PRIMARY KEY, transactions bigint NOT NULL, moved bigint NOT NULL);
         CREATE TABLE drill.marker (text text NOT NULL);
         INSERT INTO drill.account SELECT id, {OPENING_BALANCE} FROM pg_catalog.generate_series(1, {ACCOUNTS}) id;
         INSERT INTO drill.writer SELECT id, 0, 0 FROM pg_catalog.generate_series(1, {writers}) id;
         INSERT INTO drill.marker VALUES ({});
         COMMIT;",
        quote::literal(&marker(seed))
    );
    session.execute("fill the drill's database", &statements).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_between_two_accounts_that_exist_and_repeat_with_their_seed() {
        for sequence in 1..2000 {
            let name = TransactionName { writer: 3, sequence };
            let Transfer { from, to, amount } = transfer(9, name);
            assert!(from != to && (1..=ACCOUNTS).contains(&from) && (1..=ACCOUNTS).contains(&to) && amount > 0);
            assert_eq!(transfer(9, name), Transfer { from, to, amount });
        }
    }
}
