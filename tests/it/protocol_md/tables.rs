//! Schemas as the tables of a document.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use assistd::error::Kind;
use assistd::protocol::{Direction, EventType, METHODS, Method};
use serde_json::{Map, Value};

/// Types that stand in a section of their own, and its anchor.
const ELSEWHERE: &[(&str, &str)] = &[
    ("RunStatus", "statuses-and-stop-reasons"),
    ("StopReason", "statuses-and-stop-reasons"),
    ("EventType", "events"),
    ("RateLimit", "events"),
    ("Kind", "codes-and-kinds"),
    ("Error", "errors"),
    ("Details", "errors"),
    ("Upstream", "errors"),
];

/// The table of all methods.
pub fn overview() -> String {
    let mut page = String::from("| method | who says it | what it does |\n| --- | --- | --- |\n");
    for row in METHODS {
        let who = match row.direction {
            Direction::ToServer => "client, request",
            Direction::ToServerNotification => "client, notification",
            Direction::ToClientNotification => "assistd, notification",
            Direction::ToClient => "assistd, request",
        };
        let link = anchor(row.name);
        let _ = writeln!(page, "| [`{0}`](#{link}) | {who} | {1} |", row.name, row.summary);
    }
    page
}

/// The definitions of the schema, by name.
pub struct Types(pub Map<String, Value>);

impl Types {
    pub fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or_else(|| panic!("no type `{name}`"))
    }

    /// The definition that a reference leads to; anything else as it is.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match reference(schema) {
            Some(name) => self.get(name),
            None => schema,
        }
    }

    /// A method's parameters and result.
    pub fn method(&self, row: &Method, params: &Value, result: &Value) -> String {
        let from_client = matches!(row.direction, Direction::ToServer | Direction::ToServerNotification);
        let is_request = matches!(row.direction, Direction::ToServer | Direction::ToClient);
        let (asked, given) = if from_client {
            ("needed", "always")
        } else {
            ("always", "needed")
        };
        let mut page = match self.table(params, asked) {
            table if table.is_empty() => "No parameters.\n".to_owned(),
            table => format!("Parameters:\n\n{table}"),
        };
        if is_request {
            let name = reference(result).filter(|name| *name != "Nothing");
            let link = name.filter(|name| is_shared(name)).map(link);
            let table = self.table(result, given);
            let _ = match (link, table.as_str()) {
                (Some(link), _) => write!(page, "\nResult: {link}.\n"),
                (None, "") if name.is_none() && reference(result).is_some() => write!(page, "\nResult: `null`.\n"),
                (None, "") => write!(page, "\nResult: an object.\n"),
                (None, table) => write!(page, "\nResult:\n\n{table}"),
            };
        }
        page
    }

    /// A table of members, of values, or of variants by their `type`. Empty where there are none.
    pub fn table(&self, schema: &Value, column: &str) -> String {
        let schema = self.resolve(schema);
        let mut page = String::new();
        if let Some(properties) = schema["properties"].as_object().filter(|members| !members.is_empty()) {
            let _ = write!(
                page,
                "| member | type | {column} | meaning |\n| --- | --- | --- | --- |\n"
            );
            for name in in_order(schema) {
                let member = &properties[name];
                let needed = if is_required(schema, name) { "yes" } else { "" };
                let type_name = self.type_name(member);
                let _ = writeln!(page, "| `{name}` | {type_name} | {needed} | {} |", self.meaning(member));
            }
        }
        let variants = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_list = variants.iter().all(|variant| variant["const"].is_string());
        if is_list && !variants.is_empty() {
            page.push_str("| value | meaning |\n| --- | --- |\n");
            for variant in variants {
                let value = variant["const"].as_str().unwrap_or_default();
                let _ = writeln!(page, "| `{value}` | {} |", self.meaning(variant));
            }
        }
        page
    }

    /// The variants of a type that is told by its `type`.
    fn variants(&self, schema: &Value, note: impl Fn(&str) -> &'static str) -> String {
        let schema = self.resolve(schema);
        let mut page = String::from(
            "| `type` | member | type of the member | always | meaning |\n| --- | --- | --- | --- | --- |\n",
        );
        for variant in schema["oneOf"].as_array().expect("the type has variants") {
            let name = variant["properties"]["type"]["const"].as_str().unwrap_or_default();
            let _ = writeln!(page, "| `{name}`{} | | | | {} |", note(name), self.meaning(variant));
            // A variant may have its members in a type of its own.
            let shapes = [variant, self.resolve(variant)];
            let count = if reference(variant).is_some() { 2 } else { 1 };
            for shape in &shapes[..count] {
                for member in in_order(shape).filter(|member| *member != "type") {
                    let value = &shape["properties"][member];
                    let always = if is_required(shape, member) { "yes" } else { "" };
                    let type_name = self.type_name(value);
                    let _ = writeln!(
                        page,
                        "| | `{member}` | {type_name} | {always} | {} |",
                        self.meaning(value)
                    );
                }
            }
        }
        page
    }

    pub fn events(&self, events: &Value) -> String {
        self.variants(events, |name| {
            if EventType::DEFAULT.iter().any(|default| default.name() == name) {
                " (by default)"
            } else {
                ""
            }
        })
    }

    pub fn codes(&self) -> String {
        let mut page = String::from("| code | `kind` | retryable | meaning |\n| --- | --- | --- | --- |\n");
        let kinds = self.get("Kind")["oneOf"].as_array().expect("kinds are a list");
        for kind in Kind::ALL {
            let name = serde_json::to_value(kind).unwrap();
            let schema = kinds
                .iter()
                .find(|schema| schema["const"] == name)
                .expect("every kind is in its schema");
            let retryable = if kind.retryable() { "yes" } else { "" };
            let name = name.as_str().unwrap_or_default();
            let code = kind.code();
            let _ = writeln!(page, "| `{code}` | `{name}` | {retryable} | {} |", self.meaning(schema));
        }
        page
    }

    /// All types that are reached from here and stand nowhere else.
    pub fn section(&self, roots: &[&Value]) -> String {
        let mut reached = BTreeSet::new();
        roots.iter().for_each(|root| self.reach(root, &mut reached));
        let mut page = String::new();
        for name in reached.iter().filter(|name| is_shared(name) && !self.is_inline(name)) {
            let schema = self.get(name);
            if ELSEWHERE.iter().any(|(elsewhere, _)| elsewhere == name) {
                continue;
            }
            let is_tagged = schema["oneOf"][0]["properties"]["type"]["const"].is_string();
            let table = if is_tagged {
                self.variants(schema, |_| "")
            } else {
                self.table(schema, "always")
            };
            let separator = if page.is_empty() { "" } else { "\n" };
            let _ = write!(page, "{separator}### {name}\n\n{}\n\n{table}", self.meaning(schema));
        }
        page
    }

    fn reach(&self, schema: &Value, reached: &mut BTreeSet<String>) {
        if let Some(name) = reference(schema)
            && reached.insert(name.to_owned())
        {
            self.reach(self.get(name), reached);
        }
        match schema {
            Value::Object(members) => members.values().for_each(|value| self.reach(value, reached)),
            Value::Array(items) => items.iter().for_each(|value| self.reach(value, reached)),
            _ => {}
        }
    }

    /// Unions are written where they are used.
    fn is_inline(&self, name: &str) -> bool {
        let schema = self.get(name);
        schema["anyOf"].is_array() || schema["oneOf"].as_array().is_some_and(|variants| variants.len() == 1)
    }

    fn type_name(&self, schema: &Value) -> String {
        if let Some(name) = reference(schema) {
            return if self.is_inline(name) {
                self.type_name(&without_description(self.get(name)))
            } else {
                link(name)
            };
        }
        if let Some(value) = schema["const"].as_str() {
            return format!("`\"{value}\"`");
        }
        for union in ["anyOf", "oneOf"] {
            if let Some(options) = schema[union].as_array() {
                let options = options.iter().filter(|option| option["type"] != "null");
                let names: Vec<String> = options.map(|option| self.type_name(option)).collect();
                return names.join(" or ");
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").and_then(Value::as_str),
            kind => kind.as_str(),
        };
        match kind {
            Some("array") => format!("list of {}", self.type_name(&schema["items"])),
            Some("object") if schema["additionalProperties"]["type"] == "string" => "object of strings".into(),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("object of {}", self.type_name(&schema["additionalProperties"]))
            }
            Some("boolean") => "true or false".into(),
            Some("integer") => "whole number".into(),
            Some(kind) => kind.into(),
            None => "any".into(),
        }
    }

    /// The sentence of a member, or of its type if it has none of its own.
    fn meaning(&self, schema: &Value) -> String {
        let own = schema["description"].as_str();
        let text = own.or_else(|| self.resolve(schema)["description"].as_str());
        text.unwrap_or_default().replace('\n', " ").replace('|', "\\|")
    }
}

/// The names of the members: those that are needed as the type declares them, then the others by name, since a schema
/// keeps no order of theirs.
fn in_order(schema: &Value) -> impl Iterator<Item = &str> {
    let members = schema["properties"].as_object();
    let names: Vec<&str> = members
        .into_iter()
        .flat_map(|members| members.keys().map(String::as_str))
        .collect();
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
    let rest: Vec<&str> = names.into_iter().filter(|name| !first.contains(name)).collect();
    first.into_iter().chain(rest)
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    required.iter().any(|required| required == name)
}

/// The name of the definition that a schema refers to; schemars wraps references that have a description.
fn reference(schema: &Value) -> Option<&str> {
    let own = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
    own?.rsplit('/').next()
}

fn without_description(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(members) = schema.as_object_mut() {
        members.remove("description");
    }
    schema
}

/// Whether a type is more than the parameters or the result of one method.
fn is_shared(name: &str) -> bool {
    let is_own = name.ends_with("Params") || name.ends_with("Result") || name == "Nothing" || name == "RunEvent";
    let is_settings = ["Layer", "ProviderSettings", "AssistantSettings", "McpSettings"].contains(&name);
    !is_own && !is_settings
}

fn link(name: &str) -> String {
    match name {
        "ProviderSettings" => "[provider](#providers-by-name)".into(),
        "AssistantSettings" => "[assistant](#assistants-by-name)".into(),
        "McpSettings" => "[MCP server](#mcp-servers-by-name)".into(),
        name => {
            let elsewhere = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == name);
            let target = elsewhere.map_or_else(|| anchor(name), |(_, target)| target.to_string());
            format!("[{name}](#{target})")
        }
    }
}

/// What a heading is linked as, by GitHub's rule.
pub fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
    kept.map(|c| if c == ' ' { '-' } else { c })
        .flat_map(char::to_lowercase)
        .collect()
}
