//! Files by their paths, through the real program: read once, kept whole, and read back in pages.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::{home, is_well};
use crate::program::Home;

/// Bytes of a picture, as far as anybody looks: 5 MiB, so that its base 64 is far beyond a line.
fn picture() -> Vec<u8> {
    let noise = (0..5u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8);
    b"\x89PNG\r\n\x1a\n".iter().copied().chain(noise).collect()
}

fn write(home: &Home, name: &str, bytes: &[u8]) -> String {
    let path = home.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The bytes of a part, page by page, each decoded by itself; and the part that the first page shows.
fn read_data(daemon: &mut Daemon, message: &Value, index: u32, first_id: u64) -> (Vec<u8>, Value) {
    let (mut bytes, mut cursor, mut part) = (Vec::new(), Value::Null, Value::Null);
    for id in first_id.. {
        let params = json!({ "messageId": message, "index": index, "cursor": cursor });
        daemon.request(id, "message/read", params);
        let page = daemon.result(id);
        bytes.extend(STANDARD.decode(page["data"].as_str().unwrap()).unwrap());
        assert_eq!(
            page["part"].is_null(),
            id != first_id,
            "only the first page shows the part"
        );
        if id == first_id {
            part = page["part"].clone();
        }
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    (bytes, part)
}

#[test]
fn a_large_picture_is_kept_whole_and_listed_without_its_data() {
    let home = home();
    let picture = picture();
    let path = write(&home, "a picture.png", &picture);
    let table = write(&home, "table.csv", b"a,b\n1,2\n");
    let mut daemon = Daemon::start(&home);
    let uri = format!("file://{}", path.replace(' ', "%20"));
    let content = json!([
        { "type": "text", "text": "Look" },
        { "type": "image", "path": uri },
        { "type": "file", "path": table }
    ]);
    daemon.request(1, "assistant/send", json!({ "content": content }));
    let answer = daemon.result(1);
    assert_eq!(answer["text"], "You said: Look\n\ntable.csv\n```csv\na,b\n1,2\n```\n");

    // What is in the thread needs the files no more.
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(table).unwrap();
    daemon.request(2, "thread/read", json!({ "threadId": answer["threadId"] }));
    let read = daemon.result(2);
    let question = &read["messages"][1];
    assert_eq!(
        (&question["content"], &question["omitted"]),
        (
            &json!([
                { "type": "text", "text": "Look" },
                { "type": "image", "mimeType": "image/png" },
                { "type": "file", "data": "YSxiCjEsMgo=", "mimeType": "text/csv", "name": "table.csv" }
            ]),
            &json!(["content[1].data"])
        )
    );
    let (bytes, part) = read_data(&mut daemon, &question["messageId"], 1, 1000);
    assert!(bytes == picture, "every byte comes back");
    assert_eq!(part, json!({ "type": "image", "mimeType": "image/png" }));
    is_well(&mut daemon, 3);
    daemon.ask_in(4, &answer["threadId"], "history");
    assert!(
        daemon.result(4)["text"].as_str().unwrap().contains("table.csv"),
        "later turns have the file, too"
    );
    daemon.leave();
}

#[test]
fn what_cannot_be_read_is_refused_and_nothing_is_stored() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    let pipe = home.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let refused = |daemon: &mut Daemon, id: u64, path: &Path| {
        let content = json!([{ "type": "file", "path": path }]);
        daemon.request(id, "assistant/send", json!({ "content": content }));
        daemon.error(id)
    };
    for (id, path) in [(1, pipe.as_path()), (2, home.path()), (3, Path::new("/dev/zero"))] {
        assert_eq!(
            refused(&mut daemon, id, path)["data"]["kind"],
            "invalidParams",
            "{path:?}"
        );
    }
    let large = home.path().join("large");
    std::fs::File::create(&large).unwrap().set_len((32 << 20) + 1).unwrap();
    let error = refused(&mut daemon, 4, &large);
    assert_eq!(
        (&error["data"]["kind"], &error["data"]["size"]),
        (&json!("inputTooLarge"), &json!((32 << 20) + 1))
    );
    daemon.request(5, "thread/list", json!({}));
    assert_eq!(daemon.result(5), json!({ "threads": [] }));
    is_well(&mut daemon, 6);
    daemon.leave();
}
