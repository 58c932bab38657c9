//! What a file costs of which there is hardly anything to store.

use super::{OURS_ZSTD, REST_ZSTD_1, Stage};
use crate::support::table::{Row, markdown, median};

/// How many tables of one row are made. Each is one file of one page.
const TABLES: usize = 10_000;

impl Stage<'_> {
    /// The same cluster without and with very many small files.
    pub(super) fn small_files(&self, rounds: usize) {
        println!("### {TABLES} tables of one page more\n");
        let names: Vec<&str> = [REST_ZSTD_1, OURS_ZSTD].into_iter().filter(|name| self.has(name)).collect();
        let without = self.full_backups(&names, rounds);
        let make = format!(
            "DO $$ BEGIN FOR n IN 1..{TABLES} LOOP EXECUTE format('CREATE TABLE tiny_%s AS SELECT 1 AS one', n); \
             IF n % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$"
        );
        self.server.ask("bench", &make);
        self.server.ask("bench", "CHECKPOINT");
        let with = self.full_backups(&names, rounds);
        println!("Without them:\n\n{}\nWith them:\n\n{}", markdown(&without), markdown(&with));
        println!("| | ms a file (medians) |\n|---|---|");
        for (without, with) in without.iter().zip(&with) {
            let more = median(&with.walls()) - median(&without.walls());
            println!("| {} | {:.3} |", with.name, more * 1000.0 / TABLES as f64);
        }
        println!("\nTarget for ours: ≤ 0.1 ms.\n");
    }

    fn full_backups(&self, names: &[&'static str], rounds: usize) -> Vec<Row> {
        let mut rows: Vec<Row> = names.iter().copied().map(Row::new).collect();
        for round in 0..rounds {
            for row in &mut rows {
                self.begin_anew(row.name);
                row.costs.push(self.cost(row.name, "full", round));
            }
        }
        rows
    }
}
