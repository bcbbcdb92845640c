//! Images and files are uploaded once, byte for byte, and known again in later turns.

use assistd::error::Kind;
use assistd::protocol::{File, Image, Options, Part};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::upstream::{Recorded, Reply};

/// Bytes that no text has, with what ends a part of a form in them.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\r\n--\xff\xfe--\r\n";

fn hello() -> Reply {
    Reply::events(whole_turn("Hello!"))
}

fn uploaded(id: &str) -> Reply {
    Reply::json(200, json!({ "id": id, "object": "file", "status": "processed" }))
}

/// What the upstream's assistant has by itself: a way to search files.
fn assistant() -> Reply {
    Reply::json(200, json!({ "id": "asst_1", "tools": [{ "type": "file_search" }] }))
}

fn refused(status: u16, message: &str) -> Reply {
    Reply::json(status, json!({ "error": { "message": message } })).header("retry-after-ms", "1")
}

fn image() -> Part {
    Part::Image(Image {
        data: Some(STANDARD.encode(PNG)),
        mime_type: Some("image/png".into()),
        detail: Some("low".into()),
        ..Image::default()
    })
}

fn file(name: &str, mime_type: &str, bytes: &[u8]) -> Part {
    Part::File(File {
        data: Some(STANDARD.encode(bytes)),
        mime_type: Some(mime_type.into()),
        name: Some(name.into()),
        ..File::default()
    })
}

/// A request whose messages have these parts besides their text.
fn with_parts(said: &str, parts: &[(usize, Vec<Part>)]) -> Request {
    let mut request = request(said);
    for (index, parts) in parts {
        messages(&mut request)[*index].content.extend(parts.iter().cloned());
    }
    request
}

/// A part of a form: its head and its bytes.
type FormPart = (String, Vec<u8>);

/// The parts of a form, as RFC 7578 has them.
fn form(request: &Recorded) -> Vec<FormPart> {
    let kind = request.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    // The first delimiter has no line before it.
    let body = [b"\r\n", &request.body[..]].concat();
    let mut starts: Vec<usize> = Vec::new();
    for at in 0..body.len() {
        if body[at..].starts_with(&delimiter) {
            starts.push(at);
        }
    }
    assert_eq!(&body[starts[starts.len() - 1] + delimiter.len()..], b"--\r\n");
    let parts = starts.windows(2).map(|pair| {
        let part = &body[pair[0] + delimiter.len() + 2..pair[1]];
        let head = part.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let text = String::from_utf8(part[..head].to_vec()).unwrap();
        (text.to_ascii_lowercase(), part[head + 4..].to_vec())
    });
    parts.collect()
}

/// The purpose, the head of the file and its bytes.
fn upload(request: &Recorded) -> (String, String, Vec<u8>) {
    assert_eq!((&*request.method, request.path()), ("POST", "/v1/files"));
    let [(purpose_head, purpose), (head, bytes)] = &form(request)[..] else {
        panic!("two parts");
    };
    assert_eq!(purpose_head, "content-disposition: form-data; name=\"purpose\"");
    (String::from_utf8(purpose.clone()).unwrap(), head.clone(), bytes.clone())
}

fn lines(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests();
    let lines = requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.path()));
    lines.collect()
}

#[tokio::test]
async fn what_a_message_brings_is_uploaded_once_and_named() {
    let replies = [
        uploaded("file_image"),
        uploaded("file_pdf"),
        uploaded("file_table"),
        assistant(),
        hello(),
        hello(),
    ];
    let upstream = Upstream::start(replies).await;
    let provider = provider(&upstream);
    let pdf = [b"%PDF-1.7\n".as_slice(), PNG].concat();
    let table = "a,ü\r\n\r\n".as_bytes();
    let parts = vec![
        image(),
        file("a \"b\".pdf", "application/pdf", &pdf),
        file("tä\nb.csv", "text/csv", table),
    ];
    let (events, end) = play(&provider, with_parts("u1:Look", &[(0, parts.clone())])).await;
    assert_eq!((retries(&events), end), (0, END_TURN));

    let requests = upstream.requests();
    let (purpose, head, bytes) = upload(&requests[0]);
    assert_eq!((&*purpose, &*bytes), ("vision", PNG));
    assert!(head.contains("name=\"file\"; filename=\"image.png\"") && head.contains("content-type: image/png"));
    let (purpose, head, bytes) = upload(&requests[1]);
    assert_eq!((&*purpose, &*bytes), ("assistants", &*pdf));
    assert!(
        head.contains("content-type: application/pdf") && head.contains(".pdf\""),
        "{head}"
    );
    let (purpose, head, bytes) = upload(&requests[2]);
    assert_eq!((&*purpose, &*bytes), ("assistants", table));
    assert!(head.contains("filename=\"tä_b.csv\""), "{head}");

    let body = requests[4].json();
    assert_eq!(
        body["thread"]["messages"],
        json!([{ "role": "user",
            "content": [
                { "type": "text", "text": "Look" },
                { "type": "image_file", "image_file": { "file_id": "file_image", "detail": "low" } }
            ],
            "attachments": [
                { "file_id": "file_pdf", "tools": [{ "type": "file_search" }] },
                { "file_id": "file_table", "tools": [{ "type": "code_interpreter" }] }
            ] }])
    );
    assert_eq!(
        body["tools"],
        json!([{ "type": "file_search" }, { "type": "code_interpreter" }]),
        "what the assistant lacks to read them is added"
    );

    let kept = last_anchor(&events).unwrap();
    assert_eq!(
        kept,
        json!({ "threadId": "thread_1", "runId": "run_1", "synced": "u1",
            "files": { "u1/1": "file_image", "u1/2": "file_pdf", "u1/3": "file_table" } })
    );
    let mut later = with_parts("u1:Look a1:Hello! u2:Again", &[(0, parts)]);
    later.anchor = Some(kept);
    let (events, end) = play(&provider, later).await;
    assert_eq!(end, END_TURN);
    assert_eq!(lines(&upstream)[5..], ["POST /v1/threads/thread_1/runs"]);
    assert_eq!(
        last_anchor(&events).unwrap()["files"]["u1/1"],
        "file_image",
        "and they stay known"
    );
}

#[tokio::test]
async fn a_run_that_fails_forgets_no_upload() {
    let upstream = Upstream::start([uploaded("file_image"), refused(400, "no run today"), hello()]).await;
    let provider = provider(&upstream);
    let (events, end) = play(&provider, with_parts("u1:Look", &[(0, vec![image()])])).await;
    assert_eq!(error(end).kind(), Kind::Upstream);
    let mut again = with_parts("u1:Look u2:Please", &[(0, vec![image()])]);
    again.anchor = last_anchor(&events);
    assert_eq!(again.anchor, Some(json!({ "files": { "u1/1": "file_image" } })));
    let (events, end) = play(&provider, again).await;
    assert_eq!(end, END_TURN);
    assert_eq!(
        lines(&upstream),
        ["POST /v1/files", "POST /v1/threads/runs", "POST /v1/threads/runs"]
    );
    assert_eq!(last_anchor(&events).unwrap()["threadId"], "thread_1");
}

#[tokio::test]
async fn an_upload_is_tried_again_and_its_failure_is_the_runs() {
    let upstream = Upstream::start([
        refused(503, "not now"),
        Reply::hang_up(),
        uploaded("file_image"),
        hello(),
    ])
    .await;
    let (events, end) = play(&provider(&upstream), with_parts("u1:Look", &[(0, vec![image()])])).await;
    assert_eq!((retries(&events), end), (2, END_TURN));

    let upstream = Upstream::start([refused(400, "Invalid image.")]).await;
    let (_, end) = play(&provider(&upstream), with_parts("u1:Look", &[(0, vec![image()])])).await;
    let error = error(end);
    assert_eq!(error.data.upstream.unwrap().message.as_deref(), Some("Invalid image."));

    let upstream = Upstream::start([Reply::json(200, json!({ "object": "file" }))]).await;
    let (_, end) = play(&provider(&upstream), with_parts("u1:Look", &[(0, vec![image()])])).await;
    assert_eq!(
        super::error(end).message,
        "expected provider `test` to give an id to an uploaded file, found none"
    );
}

#[tokio::test]
async fn an_old_picture_that_is_refused_makes_no_thread_useless() {
    let upstream = Upstream::start([refused(400, "Invalid image."), hello(), hello()]).await;
    let provider = provider(&upstream);
    let parts = [(0, vec![image()])];
    let (events, end) = play(&provider, with_parts("u1:Look a1:Nice u2:More", &parts)).await;
    assert_eq!(end, END_TURN);
    let sent = upstream.requests()[1].json();
    assert_eq!(
        sent["thread"]["messages"][0],
        json!({ "role": "user", "content": "Look" })
    );
    // Nor is it tried in every turn: here the whole history goes to a new thread once more.
    let mut fork = with_parts("u1:Look u9:Else", &parts);
    fork.anchor = last_anchor(&events);
    assert_eq!(play(&provider, fork).await.1, END_TURN);
    assert_eq!(lines(&upstream).len(), 3);
}

#[tokio::test]
async fn what_is_gone_from_the_upstream_is_uploaded_again() {
    let upstream = Upstream::start([
        refused(400, "No file found with id 'file_old'."),
        uploaded("file_new"),
        hello(),
    ])
    .await;
    let mut request = with_parts("u1:Look u2:More", &[(0, vec![image()])]);
    request.anchor = Some(json!({ "files": { "u1/1": "file_old" } }));
    let (events, end) = play(&provider(&upstream), request).await;
    assert_eq!((retries(&events), end), (1, END_TURN));
    let sent = upstream.requests()[2].json();
    let image = &sent["thread"]["messages"][0]["content"][1]["image_file"];
    assert_eq!(image["file_id"], "file_new");
    assert_eq!(last_anchor(&events).unwrap()["files"], json!({ "u1/1": "file_new" }));
}

#[tokio::test]
async fn cancelling_ends_an_upload_at_once() {
    let upstream = Upstream::start([Reply::silence()]).await;
    let request = with_parts("u1:Look", &[(0, vec![image()])]);
    let cancel = request.cancel.clone();
    let provider = provider(&upstream);
    let answer = tokio::spawn(async move { play(&provider, request).await });
    upstream.request(1).await;
    cancel.cancel();
    assert_eq!(answer.await.unwrap().1, End::Cancelled);
    assert_eq!(upstream.requests().len(), 1, "no run was begun");
}

#[tokio::test]
async fn azure_and_foundry_have_files_below_their_own_paths() {
    let upstream = Upstream::start([uploaded("file_1"), hello(), uploaded("file_1"), hello()]).await;
    let mut settings = settings(&upstream);
    for (service, path, target) in [
        (
            Service::Azure,
            "/openai",
            "/openai/files?api-version=2024-05-01-preview",
        ),
        (
            Service::Foundry,
            "/api/projects/p",
            "/api/projects/p/files?api-version=v1",
        ),
    ] {
        settings.service = Some(service);
        settings.base_url = Some(upstream.url().replace("/v1", path));
        let before = upstream.requests().len();
        let request = with_parts("u1:Look", &[(0, vec![image()])]);
        assert_eq!(play(&provider_with(&settings), request).await.1, END_TURN);
        assert_eq!(upstream.requests()[before].target, target);
    }
}

#[tokio::test]
async fn tools_that_the_upstream_runs_are_added_to_the_assistants() {
    let upstream = Upstream::start([assistant(), hello()]).await;
    let mut request = request("u1:one");
    let tools = json!({ "upstreamTools": [{ "type": "code_interpreter" }] });
    request.options = serde_json::from_value::<Options>(tools).unwrap();
    assert_eq!(play(&provider(&upstream), request).await.1, END_TURN);
    assert_eq!(
        upstream.requests()[1].json()["tools"],
        json!([{ "type": "file_search" }, { "type": "code_interpreter" }])
    );
}
