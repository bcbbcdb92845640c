//! protocol.md against the types of the wire: what repeats them is made from them, between `<!-- generated: … -->` and
//! `<!-- end -->`, and compared both ways.

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use assistd::config::{AssistantSettings, Layer, McpSettings, ProviderSettings};
use assistd::error::Error;
use assistd::protocol::{METHODS, Method, RunEvent, RunStatus, StopReason};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use tables::{Types, anchor, overview};

const BEGIN: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";
const MEND: &str = "run `UPDATE=1 cargo test --test it protocol_md::`, and read what it changed";

#[test]
fn protocol_md_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol.md");
    let _turn = crate::documents::turn();
    let old = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let blocks = blocks();
    let new = rewrite(&old, &blocks);
    if std::env::var_os("UPDATE").is_some_and(|update| !update.is_empty()) {
        std::fs::write(&path, &new).unwrap();
    } else if let Some(line) = first_difference(&old, &new) {
        panic!("protocol.md:{line} is not what the types say: {MEND}");
    }
    let written: Vec<&str> = new.lines().filter_map(block_name).collect();
    let known: Vec<&str> = blocks.keys().map(String::as_str).collect();
    for name in &known {
        let count = written.iter().filter(|written| written == &name).count();
        assert_eq!(
            count, 1,
            "protocol.md needs `{BEGIN}{name} -->` and `{END}` once, and has it {count} times"
        );
    }
    for name in written {
        assert!(
            known.contains(&name),
            "protocol.md has a generated section `{name}`, which no type is behind"
        );
    }
}

#[test]
fn every_method_has_its_heading_and_every_heading_its_method() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol.md")).unwrap();
    let headings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    for row in METHODS {
        assert!(
            headings.contains(&row.name),
            "protocol.md needs the heading ### `{}`",
            row.name
        );
    }
    for heading in headings {
        assert!(
            METHODS.iter().any(|row| row.name == heading),
            "protocol.md has the heading ### `{heading}`, and src/protocol/methods.rs no such row"
        );
    }
}

#[test]
fn every_link_inside_protocol_md_leads_somewhere() {
    for file in ["protocol.md", "README.md"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let headings = text.lines().filter(|line| line.starts_with('#'));
        let anchors: BTreeSet<String> = headings
            .map(|line| anchor(line.trim_start_matches('#').trim()))
            .collect();
        for link in text.split("](#").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            assert!(
                anchors.contains(target),
                "{file} links to #{target}, and has no such heading"
            );
        }
    }
}

fn block_name(line: &str) -> Option<&str> {
    line.strip_prefix(BEGIN)?.strip_suffix(" -->")
}

/// The text with every known block made anew.
fn rewrite(old: &str, blocks: &BTreeMap<String, String>) -> String {
    let mut new = String::with_capacity(old.len());
    let mut lines = old.lines();
    while let Some(line) = lines.next() {
        let _ = writeln!(new, "{line}");
        let Some(name) = block_name(line) else {
            continue;
        };
        let kept: Vec<&str> = lines.by_ref().take_while(|line| *line != END).collect();
        match blocks.get(name) {
            Some(block) => new.push_str(block),
            None => kept.iter().for_each(|line| {
                let _ = writeln!(new, "{line}");
            }),
        }
        let _ = writeln!(new, "{END}");
    }
    new
}

fn first_difference(old: &str, new: &str) -> Option<usize> {
    if old == new {
        return None;
    }
    let same = old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count();
    Some(same + 1)
}

/// Every generated block by its name.
fn blocks() -> BTreeMap<String, String> {
    let mut generator = SchemaSettings::draft07().into_generator();
    let methods: Vec<(&Method, Value, Value)> = METHODS
        .iter()
        .map(|row| {
            let params = (row.params)(&mut generator).to_value();
            let result = (row.result)(&mut generator).to_value();
            (row, params, result)
        })
        .collect();
    let settings = ["settings", "settings providers", "settings assistants", "settings mcp"];
    let tables = [
        subschema::<Layer>(&mut generator),
        subschema::<ProviderSettings>(&mut generator),
        subschema::<AssistantSettings>(&mut generator),
        subschema::<McpSettings>(&mut generator),
    ];
    let lists = [
        ("statuses", subschema::<RunStatus>(&mut generator)),
        ("stop reasons", subschema::<StopReason>(&mut generator)),
    ];
    let events = subschema::<RunEvent>(&mut generator);
    let error = subschema::<Error>(&mut generator);
    let types = Types(generator.take_definitions(true));

    let mut blocks = BTreeMap::new();
    blocks.insert("methods".to_owned(), overview());
    for (row, params, result) in &methods {
        blocks.insert(row.name.to_owned(), types.method(row, params, result));
    }
    for (name, schema) in lists {
        blocks.insert(name.to_owned(), types.table(&schema, "always"));
    }
    blocks.insert("events".to_owned(), types.events(&events));
    blocks.insert("codes".to_owned(), types.codes());
    let mut errors = types.table(&error, "always");
    for (name, intro) in [("Details", "`data`"), ("Upstream", "`data.upstream`")] {
        let _ = write!(errors, "\n{intro}:\n\n{}", types.table(types.get(name), "always"));
    }
    blocks.insert("errors".to_owned(), errors);
    for (name, schema) in settings.iter().zip(&tables) {
        blocks.insert(name.to_string(), types.table(schema, "needed"));
    }
    let roots = methods.iter().flat_map(|(_, params, result)| [params, result]);
    let roots: Vec<&Value> = roots.chain(&tables).chain([&events]).collect();
    blocks.insert("types".to_owned(), types.section(&roots));
    blocks
}

fn subschema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}
