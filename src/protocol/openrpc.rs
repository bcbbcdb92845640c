//! The OpenRPC document of this very build, made from the table of methods.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Direction, METHODS, PROTOCOL_VERSION};

/// The document, after the OpenRPC specification 1.3. What assistd says itself stands under `x-notifications` and
/// `x-clientMethods`, since OpenRPC has no word for it.
pub fn openrpc() -> Value {
    let mut generator = SchemaSettings::draft07()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut sections: [Vec<Value>; 4] = Default::default();
    for method in METHODS {
        let params = (method.params)(&mut generator);
        let result = (method.result)(&mut generator);
        let mut entry = Map::new();
        entry.insert("name".into(), method.name.into());
        entry.insert("summary".into(), method.summary.into());
        entry.insert("paramStructure".into(), "by-name".into());
        entry.insert("params".into(), json!([{ "name": "params", "schema": params }]));
        if matches!(method.direction, Direction::ToServer | Direction::ToClient) {
            entry.insert("result".into(), json!({ "name": "result", "schema": result }));
        }
        sections[method.direction as usize].push(Value::Object(entry));
    }
    let [methods, client_notifications, notifications, client_methods] = sections;
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "assistd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A streaming AI assistant over stdin and stdout.",
            "x-protocolVersion": PROTOCOL_VERSION,
        },
        "methods": methods,
        "x-clientNotifications": client_notifications,
        "x-notifications": notifications,
        "x-clientMethods": client_methods,
        "components": { "schemas": generator.take_definitions(true) },
    })
}
