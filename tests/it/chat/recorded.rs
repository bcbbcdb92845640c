//! Recorded streams of real servers, cut everywhere, against a table of what is in them.

use assistd::protocol::Usage;
use assistd::provider::ToolCall;

use super::*;
use crate::upstream::Cut;

/// What is in a stream.
struct Row {
    file: &'static str,
    /// How many characters of text, and how they begin and end.
    text: (usize, &'static str, &'static str),
    refusal: &'static str,
    /// How many characters.
    reasoning: usize,
    /// Id, name, arguments.
    calls: &'static [(&'static str, &'static str, &'static str)],
    /// Read, written, both; of those from a cache, and reasoning.
    usage: Option<([u64; 3], Option<u64>, Option<u64>)>,
    end: fn() -> End,
}

const NO_TEXT: (usize, &str, &str) = (0, "", "");

const END: fn() -> End = || END_TURN;
const REFUSED: fn() -> End = || End::Completed(StopReason::Refusal);
const LENGTH: fn() -> End = || End::Incomplete(StopReason::MaxTokens);
/// The calls are those of the row.
const CALLS: fn() -> End = || End::ToolCalls(Vec::new());

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { file: "openai-dotnet/ChatTests.StreamingStructuredRefusalWorks.0.sse", text: (44, "I'm sorry, I can't", "that request."), refusal: "", reasoning: 0, calls: &[], usage: Some(([26, 10, 36], Some(0), Some(0))), end: END },
    Row { file: "openai-python/173417d55340.sse", text: NO_TEXT, refusal: "I'm sorry, I can't assist with that request.", reasoning: 0, calls: &[], usage: Some(([79, 11, 90], None, Some(0))), end: REFUSED },
    Row { file: "openai-python/569c877e6942.sse", text: NO_TEXT, refusal: "I'm very sorry, but I can't assist with that.", reasoning: 0, calls: &[], usage: Some(([79, 12, 91], None, Some(0))), end: REFUSED },
    Row { file: "openai-python/2018feb66ae1.sse", text: NO_TEXT, refusal: "", reasoning: 0, calls: &[("call_4XzlGBLtUe9dy3GVNV4jhq7h", "get_weather", r#"{"city":"New York City"}"#)], usage: Some(([44, 16, 60], None, Some(0))), end: CALLS },
    Row { file: "openai-python/a247c49c5fcd.sse", text: NO_TEXT, refusal: "", reasoning: 0, calls: &[("call_CTf1nWJLqSeRgDqaCG27xZ74", "get_weather", r#"{"city":"San Francisco","state":"CA"}"#)], usage: Some(([48, 19, 67], None, Some(0))), end: CALLS },
    Row { file: "openai-python/7e5ea4d12e7c.sse", text: (53, r#"{"city":"San Francisco","#, r#"61,"units":"f"}"#), refusal: "", reasoning: 0, calls: &[], usage: Some(([79, 14, 93], None, Some(0))), end: END },
    // Three answers at once, of which the first is shown.
    Row { file: "openai-python/a491adda08c3.sse", text: (53, r#"{"city":"San Francisco","#, r#"65,"units":"f"}"#), refusal: "", reasoning: 0, calls: &[], usage: Some(([79, 42, 121], None, Some(0))), end: END },
    Row { file: "openai-python/d61558011839.sse", text: (608, "\n  {\n    \"location\": \"San", "}\n    ]\n  }\n"), refusal: "", reasoning: 0, calls: &[], usage: Some(([19, 177, 196], None, Some(0))), end: END },
    Row { file: "openai-python/e2aad469b71d.sse", text: (159, "I'm unable to provide", "or a weather app."), refusal: "", reasoning: 0, calls: &[], usage: Some(([14, 30, 44], None, Some(0))), end: END },
    Row { file: "local/llama-chat.sse", text: (63, "I'm glad to meet", "you to my realm?"), refusal: "", reasoning: 0, calls: &[], usage: Some(([37, 17, 54], Some(24), None)), end: END },
    Row { file: "local/llama-chat-toolcall.sse", text: NO_TEXT, refusal: "", reasoning: 0, calls: &[("dOboyZKUJcQctH8HQWBVjQRL4qQnULal", "get_weather", r#"{"city": "Paris"}"#)], usage: None, end: CALLS },
    Row { file: "vercel-ai/deepseek/chat/deepseek-reasoning.chunks.txt", text: (42, "The word \"strawberry\"", "three \"r\"s."), refusal: "", reasoning: 606, calls: &[], usage: Some(([18, 219, 237], Some(0), Some(205))), end: END },
    Row { file: "vercel-ai/deepseek/chat/deepseek-text.chunks.txt", text: (1855, "## **Holiday Name:**", "silent looking at"), refusal: "", reasoning: 0, calls: &[], usage: Some(([13, 400, 413], Some(0), None)), end: LENGTH },
    Row { file: "vercel-ai/deepseek/chat/deepseek-tool-call.chunks.txt", text: NO_TEXT, refusal: "", reasoning: 191, calls: &[("call_00_ioIn7yN9p1ZOMNpDLwd4MgAF", "weather", r#"{"location": "San Francisco"}"#)], usage: Some(([339, 83, 422], Some(320), Some(39))), end: CALLS },
    Row { file: "vercel-ai/groq/groq-reasoning.chunks.txt", text: (347, "The word **\"strawberry\"**", "$\\boxed{3}$"), refusal: "", reasoning: 2952, calls: &[], usage: Some(([17, 1107, 1124], None, Some(963))), end: END },
    Row { file: "vercel-ai/groq/groq-text.chunks.txt", text: (3189, "Introducing \"Luminaria\" -", "the magic of light."), refusal: "", reasoning: 0, calls: &[], usage: Some(([45, 662, 707], None, None)), end: END },
    Row { file: "vercel-ai/groq/groq-tool-call.chunks.txt", text: NO_TEXT, refusal: "", reasoning: 0, calls: &[("tk85n1k4m", "weather", "{}")], usage: Some(([210, 15, 225], None, None)), end: CALLS },
    Row { file: "vercel-ai/openai-compatible/chat/xai-text.chunks.txt", text: (4, "Grok", "Grok"), refusal: "", reasoning: 1455, calls: &[], usage: Some(([12, 2, 354], Some(11), Some(340))), end: END },
    Row { file: "vercel-ai/openai-compatible/chat/xai-tool-call.chunks.txt", text: NO_TEXT, refusal: "", reasoning: 1069, calls: &[("call_79382389", "weather", r#"{"location":"San Francisco"}"#)], usage: Some(([307, 26, 560], Some(306), Some(227))), end: CALLS },
];

impl Row {
    fn check(&self, account: &Account, end: &End) {
        let file = self.file;
        let (chars, begins, ends) = self.text;
        assert_eq!(account.text.chars().count(), chars, "{file}: {:?}", account.text);
        assert!(
            account.text.starts_with(begins) && account.text.ends_with(ends),
            "{file}: {:?}",
            account.text
        );
        assert_eq!(account.refusal, self.refusal, "{file}");
        assert_eq!(
            account.reasoning.chars().count(),
            self.reasoning,
            "{file}: {:?}",
            account.reasoning
        );
        let usage = self.usage.map(
            |([input_tokens, output_tokens, total_tokens], cached_tokens, reasoning_tokens)| Usage {
                input_tokens,
                output_tokens,
                total_tokens,
                cached_tokens,
                reasoning_tokens,
            },
        );
        assert_eq!(account.usage, usage, "{file}");
        assert_eq!(account.others, [""; 0], "{file}");
        let call = |(id, name, arguments): &(&str, &str, &str)| ToolCall {
            id: (*id).to_owned(),
            name: (*name).to_owned(),
            arguments: (*arguments).to_owned(),
        };
        let calls: Vec<ToolCall> = self.calls.iter().map(call).collect();
        let arguments = calls.iter().map(|call| (call.id.clone(), call.arguments.clone()));
        assert_eq!(account.arguments, arguments.collect::<Vec<_>>(), "{file}");
        let mut steps = Vec::new();
        if self.reasoning > 0 {
            steps.extend([("reasoning", "inProgress"), ("reasoning", "completed")]);
        }
        if !calls.is_empty() {
            steps.push(("toolCalls", "inProgress"));
        }
        let steps: Vec<_> = steps
            .into_iter()
            .map(|(kind, status)| (kind.to_owned(), status.to_owned()))
            .collect();
        assert_eq!(account.steps, steps, "{file}");
        let expected = match (self.end)() {
            End::ToolCalls(_) => End::ToolCalls(calls),
            end => end,
        };
        assert_eq!(*end, expected, "{file}");
    }
}

/// The stream as a server sends it: those that were recorded without `data:` get it back, and their end.
fn stream(fixtures: &std::path::Path, file: &str) -> Vec<u8> {
    let recorded = std::fs::read_to_string(fixtures.join(file)).unwrap_or_else(|problem| panic!("{file}: {problem}"));
    if file.ends_with(".sse") {
        return recorded.into_bytes();
    }
    let lines = recorded.lines().filter(|line| !line.is_empty());
    let events: String = lines.map(|line| format!("data: {line}\n\n")).collect();
    (events + done()).into_bytes()
}

/// The stream cut this far behind the end of each of its events at once.
fn cut_at_edges(stream: &[u8], offset: isize) -> Reply {
    let edges = memchr::memmem::find_iter(stream, b"\n\n").map(|at| at as isize + offset);
    let edges = edges.filter(|at| *at > 0 && *at < stream.len() as isize);
    let mut reply = Reply::events("");
    let mut start = 0;
    for edge in edges.map(|edge| edge as usize).filter(|edge| *edge > 0) {
        if edge > start {
            reply = reply.bytes(&stream[start..edge]);
            start = edge;
        }
    }
    reply.bytes(&stream[start..])
}

#[tokio::test]
async fn every_recording_holds_what_the_table_says() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let upstream = Upstream::start([]).await;
    let provider = provider(&upstream);
    for row in ROWS {
        upstream.push(Reply::events(stream(&fixtures, row.file)));
        let (events, end) = play(&provider, request("u1:hello")).await;
        row.check(&Account::of(&events), &end);
        // A server that hangs up behind the end of its answer has said all.
        let stream = stream(&fixtures, row.file);
        let stream = stream.strip_suffix(b"data: [DONE]\n\n").unwrap();
        upstream.push(Reply::events(stream));
        let (events, end) = play(&provider, request("u1:hello")).await;
        row.check(&Account::of(&events), &end);
    }
    assert_eq!(
        upstream.connections(),
        1,
        "a stream that was read to its end leaves its connection to the next"
    );
}

/// A stream without the reason for its end, `[DONE]` or not, is a failure however much it said.
#[tokio::test]
async fn a_recording_without_its_end_is_no_success() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let upstream = Upstream::start([]).await;
    let provider = provider(&upstream);
    for row in ROWS {
        let stream = String::from_utf8(stream(&fixtures, row.file)).unwrap();
        let reason = stream.find("\"finish_reason\":\"").unwrap();
        let cut = stream[..reason].rfind("data: ").unwrap();
        for tail in ["", done()] {
            upstream.push(Reply::events(stream[..cut].to_owned() + tail));
            let mut request = request("u1:hello");
            request.options.max_retries = Some(0);
            let (events, end) = play(&provider, request).await;
            let error = error(end);
            assert_eq!(error.kind(), assistd::error::Kind::Network, "{}", row.file);
            assert!(error.data.retryable);
            assert_eq!(Account::of(&events).text.chars().count(), row.text.0, "{}", row.file);
        }
    }
}

#[tokio::test]
async fn a_recording_is_the_same_wherever_it_is_cut() {
    const EVERY: usize = 97;
    const SMALL: usize = 5 * 1024;
    let Some(fixtures) = fixtures() else {
        return;
    };
    let upstream = Upstream::start([]).await;
    let provider = provider(&upstream);
    for row in ROWS {
        let bytes = stream(&fixtures, row.file);
        // Small ones are cut in two at every place and in pieces at every place, larger ones in pieces at every place,
        // and the largest in pieces and around the end of each event.
        let in_two = (1..bytes.len())
            .map(Cut::At)
            .take(if bytes.len() <= SMALL { usize::MAX } else { 0 });
        let step = if bytes.len() <= 10 * SMALL { 1 } else { 16 };
        let in_pieces = (0..EVERY).step_by(step).map(|first| Cut::From { first, every: EVERY });
        let cuts = in_two.chain(in_pieces).map(|cut| Reply::events(&bytes).cut(cut));
        let bytewise = (bytes.len() <= 4 * SMALL).then(|| Reply::events(&bytes).cut(Cut::From { first: 0, every: 1 }));
        let edges = (-2..=8).map(|offset| cut_at_edges(&bytes, offset));
        for reply in cuts.chain(bytewise).chain(edges) {
            upstream.push(reply);
            let (events, end) = play(&provider, request("u1:hello")).await;
            row.check(&Account::of(&events), &end);
        }
    }
}
