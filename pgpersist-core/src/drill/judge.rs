//! The judgement: what the ledger was promised, held against what the recovered database says. Counting is apart from asking,
//! so that every way to lose can be tested without a server.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{TryStreamExt, pin_mut};
use serde::{Deserialize, Serialize};

use crate::drill::books;
use crate::drill::ledger::{Record, Records, TransactionName};
use crate::error::{Error, Result};
use crate::server::session::Session;

/// How many examples a report names of each kind of loss.
const EXAMPLES: usize = 5;

/// One half of a transaction, as the database holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryRow {
    pub(crate) name: TransactionName,
    /// 0 is what an account paid, 1 what the other received.
    pub(crate) leg: i32,
    pub(crate) account: i32,
    pub(crate) amount: i64,
    pub(crate) xid: i64,
}

/// Everything the drill's tables hold. Some fifty bytes an entry: a drill's rounds bound it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) entries: Vec<EntryRow>,
    pub(crate) balances: BTreeMap<i32, i64>,
    /// By writer: how many transactions, and how much they moved.
    pub(crate) writers: BTreeMap<i32, (i64, i64)>,
    pub(crate) marker: Option<String>,
}

/// One row of the table that people know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// What is compared.
    pub what: Cow<'static, str>,
    /// What it was before the kill, by the ledger.
    pub before: String,
    /// What the database says after the recovery.
    pub after: String,
    /// Whether they are equal.
    pub matches: bool,
}

/// What became of everything in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Judgement {
    /// Transactions that the server acknowledged.
    pub acknowledged: u64,
    /// Acknowledged transactions of which nothing is there.
    pub lost: u64,
    /// Transactions, acknowledged or not, of which a part is there, or another content, or more than once.
    pub torn: u64,
    /// Announced and unanswered transactions that are there whole: committed, but nobody heard the answer.
    pub in_flight_whole: u64,
    /// Announced and unanswered transactions of which nothing is there; some had not yet begun when their connection broke.
    pub in_flight_absent: u64,
    /// Entries of transactions that no writer began.
    pub unexplained: u64,
    /// Accounts and counters that contradict the entries.
    pub unbalanced: u64,
    /// Count, total, sum and marker row, before and after.
    pub table: Vec<Comparison>,
    /// What is wrong, in words, with a few examples of each.
    pub findings: Vec<String>,
}

impl Judgement {
    /// Whether nothing is lost, torn or inconsistent.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.torn == 0 && self.unexplained == 0 && self.unbalanced == 0 && self.table.iter().all(|row| row.matches)
    }
}

/// Compares the two. Pure.
pub(crate) fn judge(records: &Records, found: &Found, seed: u64) -> Judgement {
    let mut legs: BTreeMap<TransactionName, Vec<&EntryRow>> = BTreeMap::new();
    for entry in &found.entries {
        legs.entry(entry.name).or_default().push(entry);
    }
    let mut judgement = Judgement::default();
    let (mut lost, mut torn) = (Vec::new(), Vec::new());
    let (mut promised_total, mut found_count, mut found_total) = (0_i64, 0_u64, 0_i64);
    for (name, record) in records {
        let rows = legs.remove(name).unwrap_or_default();
        let acknowledged = record.acknowledged.is_some();
        if acknowledged {
            judgement.acknowledged += 1;
            promised_total += record.transfer.amount;
        }
        if rows.is_empty() {
            if acknowledged {
                lost.push(name);
            } else {
                judgement.in_flight_absent += 1;
            }
        } else if is_whole(record, &rows) {
            if acknowledged {
                found_count += 1;
                found_total += record.transfer.amount;
            } else {
                judgement.in_flight_whole += 1;
            }
        } else {
            torn.push(name);
        }
    }
    judgement.lost = lost.len() as u64;
    judgement.torn = torn.len() as u64;
    judgement.unexplained = legs.values().map(|rows| rows.len() as u64).sum();
    let mut say = |what: &str, examples: Vec<String>| {
        if !examples.is_empty() {
            let shown = examples.iter().take(EXAMPLES).cloned().collect::<Vec<_>>().join(", ");
            let more = if examples.len() > EXAMPLES { ", …" } else { "" };
            judgement.findings.push(format!("{} {what}: {shown}{more}", examples.len()));
        }
    };
    say("acknowledged transactions are missing", lost.iter().map(|name| text(name)).collect());
    say("transactions are there in part, altered or twice", torn.iter().map(|name| text(name)).collect());
    say("transactions are there that no writer began", legs.keys().map(text).collect());
    let wrong = contradictions(found);
    say("accounts or counters contradict the entries", wrong.clone());
    judgement.unbalanced = wrong.len() as u64;
    let sum: i64 = found.balances.values().sum();
    let compare =
        |what: &'static str, before: String, after: String| Comparison { matches: before == after, what: what.into(), before, after };
    judgement.table = vec![
        compare("acknowledged transactions", judgement.acknowledged.to_string(), found_count.to_string()),
        compare("total they moved", money(promised_total), money(found_total)),
        compare("sum of all balances", money(books::sum_of_balances()), money(sum)),
        compare("marker row", books::marker(seed), found.marker.clone().unwrap_or_else(|| "missing".to_owned())),
    ];
    judgement
}

/// Exactly two entries, one of each leg, with the promised content and, where it is known, the promised transaction id.
fn is_whole(record: &Record, rows: &[&EntryRow]) -> bool {
    let transfer = &record.transfer;
    let expected = [(transfer.from, -transfer.amount), (transfer.to, transfer.amount)];
    rows.len() == 2
        && (0..2).all(|leg| {
            let (account, amount) = expected[leg as usize];
            rows.iter().any(|row| row.leg == leg && i64::from(row.account) == i64::from(account) && row.amount == amount)
        })
        && rows[0].xid == rows[1].xid
        && record.acknowledged.is_none_or(|xid| rows[0].xid.unsigned_abs() == xid)
}

/// Balances are what was there first and all entries; each writer's counters are its entries.
fn contradictions(found: &Found) -> Vec<String> {
    let mut expected: BTreeMap<i32, i64> = (1..=books::ACCOUNTS as i32).map(|id| (id, books::OPENING_BALANCE)).collect();
    let mut counters: BTreeMap<i32, (BTreeSet<u64>, i64)> = BTreeMap::new();
    for entry in &found.entries {
        *expected.entry(entry.account).or_default() += entry.amount;
        let counter = counters.entry(entry.name.writer as i32).or_default();
        counter.0.insert(entry.name.sequence);
        counter.1 += entry.amount.max(0);
    }
    let mut wrong = Vec::new();
    for id in expected.keys().chain(found.balances.keys()).collect::<BTreeSet<_>>() {
        let (entries, balance) = (expected.get(id), found.balances.get(id));
        if entries != balance {
            let number = |value: Option<&i64>| value.map_or_else(|| "nothing".to_owned(), |value| money(*value));
            wrong.push(format!("account {id} holds {} and its entries say {}", number(balance), number(entries)));
        }
    }
    for (id, (transactions, moved)) in &found.writers {
        let (sequences, total) = counters.get(id).map(|(s, t)| (s.len() as i64, *t)).unwrap_or_default();
        if (*transactions, *moved) != (sequences, total) {
            wrong.push(format!("writer {id} counted {transactions} transactions and its entries say {sequences}"));
        }
    }
    wrong.extend(counters.keys().filter(|id| !found.writers.contains_key(id)).map(|id| format!("writer {id} has no counter")));
    wrong
}

fn text(name: &TransactionName) -> String {
    format!("{} of writer {}", name.sequence, name.writer)
}

/// An amount in its smallest unit, as people write it.
fn money(amount: i64) -> String {
    let whole = (amount / 100).unsigned_abs().to_string();
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}{grouped}.{:02}", if amount < 0 { "-" } else { "" }, (amount % 100).abs())
}

/// Reads the drill's tables as one snapshot, and from the tables themselves: what only an index still knows is lost.
///
/// # Errors
/// [`Error::Sql`].
pub(crate) async fn ask(session: &Session) -> Result<Found> {
    session
        .execute(
            "begin to read the drill's tables",
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off",
        )
        .await?;
    let mut found = Found::default();
    let nothing: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
    let failed = |e| Error::sql("read the drill's entries", e);
    let rows =
        session.client().query_raw("SELECT writer, sequence, leg, account, amount, xid FROM drill.entry", nothing).await.map_err(failed)?;
    pin_mut!(rows);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let name = TransactionName { writer: row.get::<_, i32>(0).unsigned_abs(), sequence: row.get::<_, i64>(1).unsigned_abs() };
        found.entries.push(EntryRow { name, leg: row.get(2), account: row.get(3), amount: row.get(4), xid: row.get(5) });
    }
    let failed = |e| Error::sql("read the drill's accounts", e);
    for row in session.client().query("SELECT id, balance FROM drill.account", &[]).await.map_err(failed)? {
        found.balances.insert(row.get(0), row.get(1));
    }
    for row in session.client().query("SELECT id, transactions, moved FROM drill.writer", &[]).await.map_err(failed)? {
        found.writers.insert(row.get(0), (row.get(1), row.get(2)));
    }
    found.marker = session.text("read the marker row", "SELECT text FROM drill.marker").await?;
    session.execute("end reading", "COMMIT").await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 5;

    fn world(transactions: u64) -> (Records, Found) {
        let mut records = Records::new();
        let mut found = Found {
            balances: (1..=books::ACCOUNTS as i32).map(|id| (id, books::OPENING_BALANCE)).collect(),
            marker: Some(books::marker(SEED)),
            ..Found::default()
        };
        for sequence in 1..=transactions {
            let name = TransactionName { writer: 1, sequence };
            let transfer = books::transfer(SEED, name);
            let xid = 700 + sequence;
            records.insert(name, Record { round: 1, transfer, acknowledged: Some(xid) });
            for (leg, account, amount) in [(0, transfer.from as i32, -transfer.amount), (1, transfer.to as i32, transfer.amount)] {
                found.entries.push(EntryRow { name, leg, account, amount, xid: xid as i64 });
                *found.balances.get_mut(&account).unwrap() += amount;
            }
            let counter = found.writers.entry(1).or_default();
            *counter = (counter.0 + 1, counter.1 + transfer.amount);
        }
        (records, found)
    }

    fn unacknowledge(records: &mut Records, sequence: u64) {
        records.get_mut(&TransactionName { writer: 1, sequence }).unwrap().acknowledged = None;
    }

    #[test]
    fn all_there_is_clean() {
        let (records, found) = world(50);
        let judgement = judge(&records, &found, SEED);
        assert!(judgement.is_clean(), "{judgement:?}");
        assert_eq!((judgement.acknowledged, judgement.lost, judgement.torn), (50, 0, 0));
        assert!(judgement.table.iter().all(|row| row.matches));
    }

    #[test]
    fn transactions_in_flight_may_be_whole_or_absent() {
        let (mut records, found) = world(10);
        unacknowledge(&mut records, 10);
        let absent = TransactionName { writer: 1, sequence: 11 };
        records.insert(absent, Record { round: 1, transfer: books::transfer(SEED, absent), acknowledged: None });
        let judgement = judge(&records, &found, SEED);
        assert!(judgement.is_clean(), "{judgement:?}");
        assert_eq!((judgement.in_flight_whole, judgement.in_flight_absent), (1, 1));
    }

    #[test]
    fn a_missing_transaction_is_lost_even_when_all_balances_agree() {
        let (mut records, found) = world(10);
        let name = TransactionName { writer: 1, sequence: 11 };
        records.insert(name, Record { round: 1, transfer: books::transfer(SEED, name), acknowledged: Some(711) });
        let judgement = judge(&records, &found, SEED);
        assert_eq!((judgement.lost, judgement.unbalanced), (1, 0));
        assert!(!judgement.is_clean() && judgement.findings[0].contains("11 of writer 1"), "{judgement:?}");
    }

    #[test]
    fn half_a_transaction_is_torn_whether_acknowledged_or_not() {
        let (mut records, mut found) = world(10);
        unacknowledge(&mut records, 3);
        found.entries.retain(|entry| !(entry.leg == 1 && matches!(entry.name.sequence, 3 | 7)));
        let judgement = judge(&records, &found, SEED);
        assert_eq!((judgement.lost, judgement.torn), (0, 2));
    }

    #[test]
    fn a_row_twice_or_altered_is_torn() {
        let (records, mut found) = world(10);
        let twice = found.entries[0];
        found.entries.push(twice);
        found.entries[4].xid = 1;
        assert_eq!(judge(&records, &found, SEED).torn, 2);
    }

    #[test]
    fn a_balance_without_entries_is_seen_although_no_transaction_is_missing() {
        let (records, mut found) = world(10);
        *found.balances.get_mut(&500).unwrap() += 1;
        let judgement = judge(&records, &found, SEED);
        assert_eq!((judgement.lost, judgement.torn, judgement.unbalanced), (0, 0, 1));
        assert!(!judgement.is_clean());
    }

    #[test]
    fn rows_of_nobody_and_a_lost_marker_are_seen() {
        let (records, mut found) = world(10);
        let name = TransactionName { writer: 9, sequence: 1 };
        found.entries.push(EntryRow { name, leg: 0, account: 1, amount: 0, xid: 1 });
        found.marker = None;
        let judgement = judge(&records, &found, SEED);
        assert_eq!((judgement.unexplained, judgement.unbalanced), (1, 1));
        assert!(!judgement.table[3].matches);
    }

    #[test]
    fn money_reads_like_money() {
        assert_eq!([money(1_177_825), money(-5), money(100), money(-123_456_789)], ["11,778.25", "-0.05", "1.00", "-1,234,567.89"]);
    }
}
