//! Every test that docs/THREATS.md names exists.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path, text: &mut String) {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    sources(&root.join("src"), &mut code);
    sources(&root.join("tests"), &mut code);
    let threats = fs::read_to_string(root.join("docs/THREATS.md")).unwrap();
    let rows = threats.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    let mut named = 0;
    for name in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
        named += 1;
    }
    assert!(named > 80, "only {named} names were found");
}
