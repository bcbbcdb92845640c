//! What holds for every file of the project, whoever writes it. Each failure names the fix.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Lines from which on a file has to say why it is one.
const LONG: usize = 400;

/// Files that are longer than [`LONG`], and the answer to the question why.
const LONG_FILES: &[(&str, &str)] = &[
    ("src/frame.rs", "one automaton over both framings"),
    (
        "src/protocol/assistant.rs",
        "the shapes of one noun, each member with its sentence",
    ),
    (
        "src/provider/responses/mapper.rs",
        "the table of the upstream's events, and one short answer to each",
    ),
    (
        "src/provider/responses/calls.rs",
        "one item, with the table of what each kind says",
    ),
    (
        "src/provider/embedded/weights.rs",
        "one way to fetch, and its tests against a real socket",
    ),
    ("src/rpc/tests.rs", "tables of tests"),
    (
        "src/run.rs",
        "the life of a run, round by round, from its start to its end",
    ),
    (
        "src/transcript.rs",
        "the fold that a run and its recovery share, with its tests",
    ),
    ("tests/it/assistants/ends.rs", "a table of ends"),
    ("tests/it/assistants/opening.rs", "a table of requests"),
    ("tests/it/responses/background.rs", "one stream, broken in every way"),
    ("tests/it/responses/events.rs", "a test for each kind of event"),
    (
        "tests/it/process/daemon.rs",
        "the one driver of the real program, with all that its tests look at",
    ),
];

/// Where data meets something outside, so that types may derive serde's traits.
const BORDERS: &[(&str, &str)] = &[
    ("src/protocol/", "the wire"),
    ("src/rpc", "the wire's envelope"),
    ("src/config", "settings"),
    ("src/store", "the database and the journal"),
    ("src/error.rs", "the error object of the wire"),
    (
        "src/transcript",
        "its entries and rounds are what the journal and the database hold",
    ),
    ("src/provider/assistants", "one dialect's own shapes"),
    ("src/provider/openai.rs", "shapes that several dialects share"),
    ("src/provider/chat", "one dialect's own shapes"),
    ("src/provider/responses", "one dialect's own shapes"),
    ("src/provider/embedded", "one dialect's own shapes"),
    ("src/provider/scripted", "one dialect's own shapes"),
    ("src/cli/client.rs", "a client of the wire"),
    ("src/cli/consent.rs", "a request of the wire"),
];

/// Tests that may ask again after a while, and why nothing tells them.
const POLLING: &[(&str, &str)] = &[
    (
        "tests/it/networks/tls_front.rs",
        "it stands for a server that is far away",
    ),
    (
        "tests/it/process/warming.rs",
        "what a far server sends is on its way for a while",
    ),
    ("tests/it/judge.rs", "a foreign server says nowhere that it listens"),
    ("tests/it/llama.rs", "a foreign server says nowhere that it is ready"),
];

/// Uses that go up against the order of `src/lib.rs`, as (module, what it uses, reason).
const UPWARDS: &[(&str, &str, &str)] = &[];

#[test]
fn every_file_says_first_what_it_is() {
    // A test's file may have its sentence above its `mod` line instead.
    let sources = sources().filter(|source| source.name.starts_with("src/"));
    let silent = sources.filter(|source| !source.text.starts_with("//! "));
    complain(
        silent.map(|source| source.name),
        "begin the file with `//! `: what it is, what it does not know, and its invariant if it has one",
    );
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let root = read("src/lib.rs");
    let order: Vec<&str> = root.lines().filter_map(declared_module).collect();
    assert!(
        order.len() > 10,
        "expected the `mod` lines of src/lib.rs, found {order:?}"
    );
    let place = |module: &str| order.iter().position(|known| *known == module);
    let mut upwards = Vec::new();
    for source in sources().filter(|source| source.name.starts_with("src/")) {
        let Some(own) = source.module().and_then(place) else {
            continue;
        };
        for (number, used) in source.uses() {
            let is_upwards = place(&used).is_some_and(|place| place < own);
            let is_known = UPWARDS.iter().any(|(from, to, _)| *from == order[own] && *to == used);
            if is_upwards && !is_known {
                upwards.push(format!("{}:{number}: `{}` uses `{used}`", source.name, order[own]));
            }
        }
    }
    complain(
        upwards,
        "the `mod` lines of src/lib.rs stand from the top to the roots, and a module uses only those below it: move the \
         thing down, or hand it in",
    );
}

#[test]
fn serde_stays_at_the_borders() {
    let derives = sources().filter(|source| source.name.starts_with("src/"));
    let inside = derives.filter(|source| !BORDERS.iter().any(|(border, _)| source.name.starts_with(border)));
    let found = inside.flat_map(|source| {
        let lines = source.code().filter(|(_, line)| {
            line.trim_start().starts_with("#[derive(") && (line.contains("Serialize") || line.contains("Deserialize"))
        });
        lines
            .map(|(number, _)| format!("{}:{number}", source.name))
            .collect::<Vec<_>>()
    });
    complain(
        found,
        "convert by hand: types inside are not what is sent or stored, so that each may change without the other",
    );
}

#[test]
fn nothing_is_left_undone() {
    // Written in two halves, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
        concat!("db", "g!("),
    ];
    let found = sources().flat_map(|source| {
        let lines = source.text.lines().enumerate();
        let found = lines.filter(|(_, line)| words.iter().any(|word| line.contains(word)));
        found
            .map(|(index, _)| format!("{}:{}", source.name, index + 1))
            .collect::<Vec<_>>()
    });
    complain(
        found,
        "do it, or write it down as an issue; a test that cannot run yet is not a test",
    );
}

#[test]
fn no_test_sleeps() {
    let sleeps = [concat!("thread::", "sleep("), concat!("time::", "sleep(")];
    let tests = sources().filter(|source| source.name.starts_with("tests/") || source.name.ends_with("/tests.rs"));
    let tests = tests.filter(|source| !POLLING.iter().any(|(polling, _)| source.name == *polling));
    let found = tests.flat_map(|source| {
        let lines = source
            .code()
            .filter(|(_, line)| sleeps.iter().any(|sleep| line.contains(sleep)));
        lines
            .map(|(number, _)| format!("{}:{number}", source.name))
            .collect::<Vec<_>>()
    });
    complain(
        found,
        "wait for the event itself, or pause tokio's clock: a sleep is either too short or too long",
    );
}

#[test]
fn long_files_say_why() {
    let long: BTreeSet<String> = sources()
        .filter(|source| source.text.lines().count() > LONG)
        .map(|source| source.name)
        .collect();
    let listed: BTreeSet<String> = LONG_FILES.iter().map(|(name, _)| name.to_string()).collect();
    complain(
        long.difference(&listed),
        "find the second concept in the file and give it a file of its own, or list it in LONG_FILES with the reason",
    );
    complain(
        listed.difference(&long),
        "take it out of LONG_FILES: it is short by now",
    );
}

#[test]
fn the_changelog_has_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let heading = format!("## [{version}]");
    assert!(
        read("CHANGELOG.md").lines().any(|line| line.starts_with(&heading)),
        "add `{heading} - DATE` and what has changed to CHANGELOG.md"
    );
}

/// The dispatch table against the table of methods, as they are written; `methods.rs` plays both.
#[test]
fn what_is_dispatched_is_in_the_table_of_methods() {
    let dispatch = read("src/server/dispatch.rs");
    let table = dispatch
        .split("fn request(")
        .nth(1)
        .and_then(|rest| rest.split("\n    }\n").next())
        .expect("src/server/dispatch.rs has the dispatch table in `fn request`");
    let arms = table.lines().filter_map(|line| {
        let (name, rest) = line.trim_start().strip_prefix('"')?.split_once('"')?;
        rest.trim_start().starts_with("=>").then_some(name)
    });
    let unknown = arms.filter(|arm| assistd::protocol::METHODS.iter().all(|row| row.name != *arm));
    complain(unknown, "give the method a row in src/protocol/methods.rs");
}

/// A Rust file of the project.
struct Source {
    /// Its path from the root of the project, with `/`.
    name: String,
    text: String,
}

impl Source {
    /// The module at the top of the crate that it belongs to.
    fn module(&self) -> Option<&str> {
        let rest = self.name.strip_prefix("src/")?;
        rest.split(['/', '.']).next()
    }

    /// Its lines without comments, from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The modules of the crate that it names, with their lines.
    fn uses(&self) -> Vec<(usize, String)> {
        let mut uses = Vec::new();
        for (number, line) in self.code() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                if let Some(list) = rest.strip_prefix('{') {
                    // Only names right behind the brace or a comma are modules of the crate.
                    uses.extend(list.split(',').map(|name| (number, word(name.trim_start()))));
                } else {
                    uses.push((number, word(rest)));
                }
            }
        }
        uses
    }
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The name in `mod name;`, public or not.
fn declared_module(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    line.strip_prefix("mod ")?.strip_suffix(';')
}

fn sources() -> impl Iterator<Item = Source> {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    assert!(
        paths.len() > 50,
        "expected the sources of the project, found {}",
        paths.len()
    );
    paths.into_iter().map(|path| {
        let name = path.strip_prefix(root()).expect("collected below the root");
        Source {
            name: name.to_string_lossy().replace('\\', "/"),
            text: std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        }
    })
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    // A folder that is not there holds nothing.
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails if there is anything, naming all of it and the fix.
fn complain(found: impl IntoIterator<Item = impl AsRef<str>>, fix: &str) {
    let mut list = String::new();
    for name in found {
        let _ = write!(list, "\n  {}", name.as_ref());
    }
    assert!(list.is_empty(), "{fix}:{list}\n");
}
