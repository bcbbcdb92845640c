//! Files that are too large to go up with each request.

use assistd::protocol::{File, Part};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::requests::{thread, user};
use super::*;

fn large(name: &str) -> Part {
    Part::File(File {
        data: Some(STANDARD.encode(vec![7; 1_500_000])),
        mime_type: Some("application/pdf".into()),
        name: Some(name.into()),
        ..File::default()
    })
}

fn uploaded(id: &str) -> Reply {
    Reply::json(200, json!({ "id": id, "object": "file" }))
}

fn hello() -> Reply {
    Reply::events(whole_turn("Hello!"))
}

#[tokio::test]
async fn a_large_file_goes_up_once_for_all_turns() {
    let upstream = Upstream::start([uploaded("file-1"), uploaded("file-2"), hello(), hello()]).await;
    let content = vec![Part::text("Read"), large("a \"b\".pdf"), large("c.pdf")];
    let (events, end) = play(&azure(&upstream), thread(vec![user("u1", content.clone())])).await;
    assert_eq!(end, END_TURN);
    let requests = upstream.requests();
    assert_eq!(requests[0].path(), "/v1/files");
    let kind = requests[0].header("content-type").unwrap();
    assert!(kind.starts_with("multipart/form-data; boundary="), "{kind}");
    let body = &requests[0].body;
    let head = String::from_utf8_lossy(&body[..500]);
    assert!(head.contains("name=\"purpose\"\r\n\r\nassistants\r\n"), "{head}");
    assert!(
        head.contains("filename=\"a \\\"b\\\".pdf\"\r\nContent-Type: application/pdf\r\n\r\n"),
        "{head}"
    );
    assert_eq!(body.iter().filter(|byte| **byte == 7).count(), 1_500_000);
    assert_eq!(
        requests[2].json()["input"][0]["content"][2],
        json!({ "type": "input_file", "file_id": "file-2" })
    );

    let anchor = last_anchor(&events).unwrap();
    assert_eq!(
        anchor["responses"]["files"],
        json!({ "u1/1": "file-1", "u1/2": "file-2" })
    );
    let mut later = thread(vec![user("u1", content), user("u2", vec![Part::text("Again")])]);
    later.anchor = Some(anchor);
    play(&azure(&upstream), later).await;
    let again = upstream.requests()[3].json();
    assert_eq!(
        again["input"][0]["content"][1],
        json!({ "type": "input_file", "file_id": "file-1" })
    );
}

#[tokio::test]
async fn an_upload_that_fails_for_now_is_repeated_and_one_that_is_refused_is_told() {
    let message = || thread(vec![user("u1", vec![large("a.pdf")])]);
    let later = Reply::json(503, json!({})).header("retry-after", "0");
    let upstream = Upstream::start([later, uploaded("file-1"), hello()]).await;
    let (events, end) = play(&azure(&upstream), message()).await;
    assert_eq!((end, retries(&events)), (END_TURN, 1));

    let refused = Reply::json(400, json!({ "error": { "message": "no such purpose" } }));
    let upstream = Upstream::start([refused]).await;
    let (_, end) = play(&azure(&upstream), message()).await;
    assert!(error(end).message.contains("no such purpose"));
}

#[tokio::test]
async fn a_file_that_is_gone_upstream_goes_up_again() {
    let gone = Reply::json(404, json!({ "error": { "message": "No file found with id: file-1" } }));
    let upstream = Upstream::start([gone, uploaded("file-9"), hello()]).await;
    let mut asked = thread(vec![user("u1", vec![large("a.pdf")])]);
    asked.anchor = Some(json!({ "responses": { "files": { "u1/0": "file-1" } } }));
    let (events, end) = play(&azure(&upstream), asked).await;
    assert_eq!(end, END_TURN);
    assert_eq!(last_anchor(&events).unwrap()["responses"]["files"]["u1/0"], "file-9");
}

/// An earlier run lost its response. A process that dies between the upload and the new response must not leave that one
/// behind, or the next would take it up as the answer to this question.
#[tokio::test]
async fn an_upload_does_not_tell_of_a_response_of_an_earlier_run() {
    let upstream = Upstream::start([uploaded("file-1"), hello()]).await;
    let mut asked = thread(vec![user("u1", vec![large("a.pdf")])]);
    asked.anchor = Some(json!({ "responses": { "underWay": "resp_lost" } }));
    let background = ProviderSettings {
        background: Some(true),
        ..azure(&upstream)
    };
    let (events, end) = play(&background, asked).await;
    assert_eq!(end, END_TURN);
    let anchors = events.iter().filter_map(|event| match event {
        Event::Anchor(anchor) => Some(anchor["responses"]["underWay"].clone()),
        _ => None,
    });
    let anchors: Vec<Value> = anchors.collect();
    assert_eq!(anchors.first(), Some(&Value::Null));
    assert!(!anchors.contains(&json!("resp_lost")), "{anchors:?}");
}

#[tokio::test]
async fn where_there_is_no_place_for_files_they_stand_in_the_request() {
    let upstream = Upstream::start([hello()]).await;
    play(&settings(&upstream), thread(vec![user("u1", vec![large("a.pdf")])])).await;
    let part = &upstream.requests()[0].json()["input"][0]["content"][0];
    assert!(
        part["file_data"]
            .as_str()
            .unwrap()
            .starts_with("data:application/pdf;base64,BwcH")
    );
}
