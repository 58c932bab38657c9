//! What the README shows is what the crate's documentation compiles.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The text between the first line that begins with `opening` and the fence that closes it.
fn block(text: &str, opening: &str) -> Option<String> {
    let lines = text.lines().skip_while(|line| !line.starts_with(opening)).skip(1);
    let inside: Vec<&str> = lines.take_while(|line| *line != "```").collect();
    (!inside.is_empty()).then(|| inside.join("\n"))
}

#[test]
fn the_rust_of_the_readme_is_the_example_that_is_compiled() {
    let docs: Vec<String> = read("src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned())
        .collect();
    let compiled = block(&docs.join("\n"), "```no_run").unwrap();
    assert_eq!(block(&read("../README.md"), "```rust").unwrap(), compiled);
}
