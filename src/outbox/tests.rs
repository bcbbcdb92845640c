//! What waits is merged, bounded and in order.

use std::rc::Rc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, DuplexStream};

use super::{Address, Body, LANE_ROOM, Lane, Outbox, Piece, RESPONSE_ROOM, escaped_len, write};
use crate::config::Framing;
use crate::protocol::{DeltaParams, PartKind};
use crate::rpc;
use crate::transcript::{Entry, Text, Transcript};

/// A run that says things, as the real one does.
struct Speaker {
    lane: Lane,
    transcript: Transcript,
    message: Rc<str>,
    seq: u64,
}

impl Speaker {
    fn new(outbox: &Outbox, run_id: &str) -> Speaker {
        let mut transcript = Transcript::default();
        let message_id = "m".to_owned();
        transcript.apply(0, Entry::Message { message_id });
        let message = transcript.message_under_way().unwrap();
        let lane = outbox.lane(Address::new("t", run_id, Some(json!(7))));
        Speaker {
            lane,
            transcript,
            message,
            seq: 0,
        }
    }

    fn say(&mut self, part: PartKind, piece: &str) {
        self.seq += 1;
        let (text, start): (Text, usize) = self.transcript.delta(self.seq, 0, part, piece);
        let (end, escaped) = (start + piece.len(), escaped_len(piece));
        self.lane.delta(
            &self.message,
            Piece {
                seq: self.seq,
                index: 0,
                part,
                text,
                start,
                end,
                escaped,
            },
        );
    }

    fn mention(&mut self) {
        self.seq += 1;
        let event = json!({ "seq": self.seq });
        self.lane.notify(Body::Ready(rpc::notify("assistant/event", &event)));
    }
}

fn outbox(max_message: usize) -> Outbox {
    Outbox::new(Framing::Lines, max_message)
}

/// Everything that the outbox holds, as a client reads it.
async fn written(outbox: &Outbox) -> Vec<Value> {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    outbox.close();
    write(outbox.clone(), theirs, None).await.unwrap();
    lines(&mut ours).await
}

async fn lines(ours: &mut DuplexStream) -> Vec<Value> {
    let mut text = String::new();
    ours.read_to_string(&mut text).await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `seq` and text of each message; events have no text.
fn told(messages: &[Value]) -> Vec<(u64, Option<&str>)> {
    messages
        .iter()
        .map(|message| &message["params"])
        .map(|params| (params["seq"].as_u64().unwrap(), params["text"].as_str()))
        .collect()
}

#[tokio::test]
async fn a_delta_is_written_as_its_type_says() {
    let outbox = outbox(4096);
    Speaker::new(&outbox, "r\"1").say(PartKind::Refusal, "a \"b\"\n\u{1}€😀");
    let params = DeltaParams {
        thread_id: "t".into(),
        run_id: "r\"1".into(),
        seq: 1,
        token: Some(json!(7)),
        message_id: "m".into(),
        index: 0,
        part: PartKind::Refusal,
        text: "a \"b\"\n\u{1}€😀".into(),
    };
    let expected: Value = serde_json::from_str(&rpc::notify("assistant/delta", &params)).unwrap();
    assert_eq!(written(&outbox).await, [expected]);
}

#[tokio::test]
async fn what_waits_is_merged_and_bears_the_last_seq() {
    let outbox = outbox(4096);
    let mut speaker = Speaker::new(&outbox, "r");
    for piece in ["a", "b", "c"] {
        speaker.say(PartKind::Text, piece);
    }
    assert_eq!(told(&written(&outbox).await), [(3, Some("abc"))]);
}

#[tokio::test]
async fn only_neighbours_of_one_part_are_merged() {
    let outbox = outbox(4096);
    let mut speaker = Speaker::new(&outbox, "r");
    speaker.say(PartKind::Text, "a");
    speaker.mention();
    speaker.say(PartKind::Text, "b");
    speaker.say(PartKind::Refusal, "c");
    let messages = written(&outbox).await;
    assert_eq!(
        told(&messages),
        [(1, Some("a")), (2, None), (3, Some("b")), (4, Some("c"))]
    );
}

#[tokio::test]
async fn another_runs_messages_do_not_keep_neighbours_apart() {
    let outbox = outbox(4096);
    let (mut one, mut two) = (Speaker::new(&outbox, "1"), Speaker::new(&outbox, "2"));
    for piece in ["a", "b"] {
        one.say(PartKind::Text, piece);
        two.say(PartKind::Text, piece);
    }
    let messages = written(&outbox).await;
    let runs: Vec<&str> = messages
        .iter()
        .map(|message| message["params"]["runId"].as_str().unwrap())
        .collect();
    assert_eq!(runs, ["1", "2"]);
    assert_eq!(told(&messages), [(2, Some("ab")), (2, Some("ab"))]);
}

#[tokio::test]
async fn nothing_is_merged_past_what_the_client_takes() {
    let outbox = outbox(600);
    let mut speaker = Speaker::new(&outbox, "r");
    for _ in 0..200 {
        speaker.say(PartKind::Text, "\"\u{1}x");
    }
    let messages = written(&outbox).await;
    assert!(messages.len() > 1);
    assert!(messages.iter().all(|message| message.to_string().len() <= 600));
    let joined: String = told(&messages).iter().filter_map(|(_, text)| *text).collect();
    assert_eq!(joined, "\"\u{1}x".repeat(200));
}

#[tokio::test]
async fn a_lane_is_full_when_nothing_merges_and_has_room_when_it_is_written() {
    let outbox = outbox(4096);
    let mut speaker = Speaker::new(&outbox, "r");
    for _ in 0..LANE_ROOM {
        assert!(speaker.lane.has_room());
        speaker.mention();
    }
    assert!(!speaker.lane.has_room());
    let lane = speaker.lane.clone();
    let (waited, _) = tokio::join!(lane.room(), written(&outbox));
    let () = waited;
    assert!(lane.has_room());
}

#[tokio::test]
async fn responses_are_counted_until_they_are_written() {
    let outbox = outbox(4096);
    for _ in 0..RESPONSE_ROOM {
        outbox.respond("{}".into());
    }
    assert!(!outbox.has_response_room());
    let ((), messages) = tokio::join!(outbox.response_room(), written(&outbox));
    assert_eq!(messages.len(), RESPONSE_ROOM);
}

#[tokio::test]
async fn when_the_client_is_gone_nobody_waits_and_nothing_is_kept() {
    let outbox = outbox(4096);
    let mut speaker = Speaker::new(&outbox, "r");
    for _ in 0..LANE_ROOM {
        speaker.mention();
    }
    let (ours, theirs) = tokio::io::duplex(16);
    drop(ours);
    assert!(write(outbox.clone(), theirs, None).await.is_err());
    speaker.lane.room().await;
    speaker.say(PartKind::Text, "into the void");
    assert_eq!(outbox.unsent(), 0);
}

#[tokio::test]
async fn a_later_body_is_made_when_it_is_written() {
    let outbox = outbox(4096);
    let mut speaker = Speaker::new(&outbox, "r");
    let transcript = Rc::new(std::cell::RefCell::new(0));
    let seen = transcript.clone();
    speaker
        .lane
        .notify(Body::Later(Box::new(move || seen.borrow().to_string())));
    *transcript.borrow_mut() = 5;
    speaker.mention();
    assert_eq!(written(&outbox).await[0], json!(5));
}
