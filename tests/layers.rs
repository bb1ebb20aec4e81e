//! The architecture as a table: which module may name which, and what the pure layers must not know.
//!
//! The sources are read as text: comments and literals are taken out, `use` trees are spelt out, and every path from the root of the crate is held against the table. The
//! same table stands in `docs/ARCHITECTURE.md`, and must be the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From the bottom up: a module, and the modules it may name.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("crypto", &["base"]),
    ("ip", &["base"]),
    ("wire", &["base"]),
    ("overlay", &["base", "ip"]),
    ("envelope", &["base", "crypto", "wire"]),
    ("proto", &["base", "crypto", "ip", "wire", "overlay", "envelope"]),
    ("io", &["base", "ip"]),
    ("config", &["base", "crypto", "overlay"]),
    ("control", &["base", "config"]),
    ("dataplane", &["base", "crypto", "envelope", "ip", "wire", "overlay", "io"]),
    (
        "daemon",
        &["base", "crypto", "envelope", "ip", "wire", "overlay", "proto", "io", "dataplane", "config", "control"],
    ),
    ("cli", &["config", "control", "crypto", "daemon"]),
];

/// The layers without input and output.
const PURE: &[&str] = &["base", "crypto", "ip", "wire", "overlay", "envelope", "proto"];

/// Of those, the one that threads share: it alone may lock.
const LOCKS: &str = "envelope";

/// Paths that begin with one of these do not occur in the pure layers.
const IMPURE_PATHS: &[&str] = &[
    "getrandom",
    "nix",
    "quinn_udp",
    "rtnetlink",
    "socket2",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "tokio",
    "tracing",
    "tun",
];

/// Nor do these, but in the one that locks. Shared ownership and counters, which never wait, are free to all.
const LOCK_PATHS: &[&str] = &[
    "std::sync::Barrier",
    "std::sync::Condvar",
    "std::sync::LazyLock",
    "std::sync::Mutex",
    "std::sync::Once",
    "std::sync::OnceLock",
    "std::sync::RwLock",
    "std::sync::mpsc",
];

/// Nor do these words, wherever they stand.
const IMPURE_WORDS: &[&str] =
    &["Instant::now", "SystemTime", "UNIX_EPOCH", "lazy_static!", "static mut", "thread_local!", "unsafe {"];

/// What is wrong with the text of one file of `module`, which stands `depth` modules below the root of the crate.
fn faults(module: &str, depth: usize, text: &str) -> Vec<String> {
    let code = without_tests(&without_comments_and_literals(text));
    let paths = paths(&code);
    let mut faults = Vec::new();
    let allowed = LAYERS.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, allowed)| *allowed);
    for path in &paths {
        let Some(named) = from_root(path, depth) else {
            continue;
        };
        let is_layer = LAYERS.iter().any(|(name, _)| *name == named);
        if is_layer && named != module && !allowed.contains(&named) {
            faults.push(format!("`{module}` names `{named}`: {path}"));
        }
    }
    if PURE.contains(&module) {
        let locks = if module == LOCKS { &[][..] } else { LOCK_PATHS };
        for banned in IMPURE_PATHS.iter().chain(locks) {
            let is_banned = |path: &&String| {
                path.strip_prefix("::")
                    .unwrap_or(path)
                    .strip_prefix(banned)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            faults.extend(paths.iter().filter(is_banned).map(|path| format!("`{module}` is pure and names {path}")));
        }
        let words = IMPURE_WORDS.iter().filter(|word| code.contains(*word));
        faults.extend(words.map(|word| format!("`{module}` is pure and says `{word}`")));
    }
    faults
}

/// The module at the root of the crate that a path goes through, if it goes that far up.
fn from_root(path: &str, depth: usize) -> Option<&str> {
    let mut names = path.split("::").peekable();
    if names.next_if_eq(&"crate").is_some() {
        return names.next();
    }
    let mut up = 0;
    while names.next_if_eq(&"super").is_some() {
        up += 1;
    }
    if up >= depth && up > 0 { names.next() } else { None }
}

/// The code with comments and what stands in literals replaced by spaces.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if first == '"' {
            literal_len(rest)
        } else if first == '\'' && (rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'')) {
            // A lifetime has no second quote.
            rest[2..].find('\'').map_or(1, |end| end + 3)
        } else {
            0
        };
        if skipped > 0 {
            code.push(' ');
            rest = &rest[skipped..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// Length of the string literal at the start of `text`.
fn literal_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The code up to its unit tests, which stand last: they may read a clock to begin with.
fn without_tests(code: &str) -> String {
    let inline = code.match_indices("#[cfg(test)]").find(|&(at, attribute)| {
        let item = code[at + attribute.len()..].trim_start();
        item.starts_with("mod ") && item.find('{') < item.find(';')
    });
    code[..inline.map_or(code.len(), |(at, _)| at)].to_owned()
}

/// Every path in the code, with `use` trees spelt out.
fn paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let is_name = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
    for path in code.split(|char: char| !is_name(char)).filter(|path| path.contains("::")) {
        paths.insert(path.trim_end_matches(':').to_owned());
    }
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let begins_word =
            rest[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_');
        rest = &rest[at + 4..];
        if begins_word {
            let tree: String =
                rest[..rest.find(';').unwrap_or(rest.len())].split_whitespace().collect::<Vec<_>>().join(" ");
            spell_out("", &tree, &mut paths);
        }
    }
    paths
}

/// Adds every path of one `use` tree.
fn spell_out(prefix: &str, tree: &str, paths: &mut BTreeSet<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree).trim();
        paths.insert(format!("{prefix}{name}").trim_end_matches("::self").to_owned());
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut begin) = (0, 0);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                spell_out(&prefix, &group[begin..at], paths);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !group[begin..].trim().is_empty() {
        spell_out(&prefix, &group[begin..], paths);
    }
}

/// Every source file: its path below `src`, and its text.
fn sources() -> BTreeMap<String, String> {
    fn collect(folder: &Path, root: &Path, sources: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, root, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                sources.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    collect(&root, &root, &mut sources);
    sources
}

/// How many modules below the root of the crate the module of a file stands.
fn depth(file: &str) -> usize {
    let names = file.split('/').count();
    if file.ends_with("/mod.rs") { names - 1 } else { names }
}

#[test]
fn imports_point_down_and_the_core_knows_no_world() {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, text) in sources() {
        let Some((module, inside)) = file.split_once('/') else {
            // The roots of library and binary name all modules, or the command line.
            assert!(["lib.rs", "main.rs"].contains(&file.as_str()), "{file} belongs to no layer");
            continue;
        };
        assert!(LAYERS.iter().any(|(name, _)| *name == module), "{file} belongs to no layer");
        seen.insert(module.to_owned());
        // Scenario tests may read a clock to begin with.
        if !inside.contains("tests/") {
            all.extend(faults(module, depth(&file), &text).into_iter().map(|fault| format!("src/{file}: {fault}")));
        }
    }
    assert_eq!(seen.len(), LAYERS.len(), "every layer has files");
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn the_table_points_down() {
    for (place, (module, allowed)) in LAYERS.iter().enumerate() {
        for named in *allowed {
            assert!(
                LAYERS[..place].iter().any(|(below, _)| below == named),
                "{module} may name {named}, which is not below it"
            );
        }
    }
}

#[test]
fn the_architecture_document_has_the_same_table() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md")).unwrap();
    let mut rows = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, layer, module, _, may, _, _] = cells[..] else {
            continue;
        };
        if layer.parse::<u8>().is_ok() {
            let above: BTreeSet<String> = rows.iter().map(|(name, _): &(String, _)| name.clone()).collect();
            let named = may.split(',').map(|name| name.trim().trim_matches('`').to_owned());
            let may = if may == "all above" { above } else { named.filter(|name| name != "–").collect() };
            rows.push((module.trim_matches('`').to_owned(), may));
        }
    }
    let table: Vec<(String, BTreeSet<String>)> = LAYERS
        .iter()
        .map(|(module, allowed)| ((*module).to_owned(), allowed.iter().map(|&name| name.to_owned()).collect()))
        .collect();
    assert_eq!(rows, table);
}

/// Everything that must be found, in all the ways in which it can be written.
const BAD: &str = r##"
//! crate::daemon in a comment is nothing, nor is std::fs.
use std::{
    collections::BTreeMap,
    fs::{self, File},
};
use crate::{base::PeerId, daemon::{Engine, clock}};
use crate::wire::packet;
pub use super::super::cli as commands;

fn clock() -> std::time::Instant {
    let path = "crate::control is only a text, as is static mut";
    let quote = '"';
    crate::io::tun::open(path);
    tokio::spawn(async {});
    std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use crate::config;
}
"##;

#[test]
fn every_fault_of_a_bad_file_is_found() {
    let found = faults("base", 2, BAD);
    let expected = [
        "`base` names `daemon`: crate::daemon::Engine",
        "`base` names `daemon`: crate::daemon::clock",
        "`base` names `io`: crate::io::tun::open",
        "`base` names `wire`: crate::wire::packet",
        "`base` names `cli`: super::super::cli",
        "`base` is pure and names std::fs",
        "`base` is pure and names std::fs::File",
        "`base` is pure and names tokio::spawn",
        "`base` is pure and says `Instant::now`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_the_layer_may_do_is_no_fault() {
    assert_eq!(faults("daemon", 2, BAD), ["`daemon` names `cli`: super::super::cli"]);
    let good = "use super::Link;\nuse crate::base::{self, PeerId};\nuse std::net::{IpAddr, SocketAddr};\nfn f<'a>(x: &'a str) {}";
    assert!(faults("proto", 3, good).is_empty());
    assert!(faults("ip", 1, "use super::base::PeerId;").is_empty(), "base is below ip, whichever way it is written");
    assert_eq!(faults("ip", 1, "use super::wire::Packet;").len(), 1);
}
