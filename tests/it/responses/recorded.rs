//! Recorded streams of real servers, cut everywhere, against a table of what is in them.

use super::*;

/// What is in a recorded stream.
struct Row {
    /// The file; `#1` is the second of two responses in it.
    name: &'static str,
    messages: usize,
    /// How long its text is in code points, and how that ends.
    text: (usize, &'static str),
    /// How long its reasoning is, in code points.
    reasoning: usize,
    annotations: usize,
    /// Kind of each step, or of its call.
    steps: &'static [&'static str],
    /// Read, written, both, cached, reasoning.
    usage: Option<[Option<u64>; 5]>,
    end: Ending,
}

enum Ending {
    Turn,
    /// Id, name and arguments.
    Call(&'static str, &'static str, &'static str),
    /// The kind of the failure.
    Failed(assistd::error::Kind),
}

use Ending::{Call, Turn};

const fn used(input: u64, output: u64, cached: u64, reasoning: u64) -> Option<[Option<u64>; 5]> {
    Some([
        Some(input),
        Some(output),
        Some(input + output),
        Some(cached),
        Some(reasoning),
    ])
}

const NOTHING: Row = Row {
    name: "",
    messages: 1,
    text: (0, ""),
    reasoning: 0,
    annotations: 0,
    steps: &[],
    usage: None,
    end: Turn,
};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "openai-dotnet/ResponsesTests.CanStreamBackgroundResponses.0.sse", text: (1801, "elp you relax?"), usage: used(13, 404, 0, 0), ..NOTHING },
    Row { name: "openai-dotnet/ResponsesTests.CanStreamBackgroundResponses.1.sse", text: (1801, "elp you relax?"), usage: used(13, 404, 0, 0), ..NOTHING },
    Row { name: "openai-dotnet/ResponsesTests.FunctionCallStreamingWorks.0.sse", messages: 0, steps: &["function"], usage: used(74, 20, 0, 0), end: Call("call_0UFGPwrziw5rbinYp7rthrTb", "get_weather_at_location", r#"{"location":"San Francisco, CA"}"#), ..NOTHING },
    Row { name: "openai-dotnet/ResponsesTests.HelloWorldStreaming_gpt_4o_mini.0.sse", text: (34, "ist you today?"), usage: used(11, 10, 0, 0), ..NOTHING },
    Row { name: "openai-dotnet/ResponsesTests.StreamingResponses.0.sse", text: (34, "ist you today?"), usage: used(11, 10, 0, 0), ..NOTHING },
    Row { name: "openai-dotnet/ResponsesTests.StreamingResponsesWithReasoningSummary.0.sse", text: (6290, "New York City!"), reasoning: 2348, steps: &["reasoning"], usage: used(45, 3506, 0, 2240), ..NOTHING },
    Row { name: "openai-dotnet/ResponsesToolTests.CodeInterpreterToolStreaming.0.sse", messages: 2, text: (1497, "l free to ask!"), steps: &["codeInterpreter"], usage: used(828, 482, 0, 0), ..NOTHING },
    Row { name: "openai-dotnet/ResponsesToolTests.CodeInterpreterToolStreamingWithFiles.0.sse", messages: 2, text: (495, ", let me know!"), annotations: 1, steps: &["codeInterpreter", "codeInterpreter"], usage: used(38152, 312, 0, 0), ..NOTHING },
    Row { name: "openai-dotnet/ResponsesToolTests.FileSearchCallStreaming.0.sse", text: (32, "food is pizza."), annotations: 1, steps: &["fileSearch"], usage: used(1169, 52, 0, 0), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/github-copilot-id-rotation.1.chunks.txt", text: (138, "3, 8, and 9**."), reasoning: 34, steps: &["reasoning"], usage: used(19, 105, 0, 44), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-apply-patch-tool.1.chunks.txt", messages: 0, steps: &["applyPatch"], usage: used(642, 67, 0, 0), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-client-tool-search.2.chunks.txt", messages: 0, steps: &["function"], usage: used(467, 26, 0, 0), end: Call("call_Q7pq6EfVGRnauPLWSSYBGJ1l", "get_weather", r#"{"location":"San Francisco, CA","unit":"fahrenheit"}"#), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-compaction.1.chunks.txt", text: (3483, " of E2E flows."), steps: &["compaction"], usage: used(51097, 2505, 49792, 0), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-error.1.chunks.txt", messages: 0, end: Ending::Failed(assistd::error::Kind::QuotaExceeded), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-file-search-tool.2.chunks.txt", text: (380, "or NLP tasks ."), annotations: 1, steps: &["reasoning", "fileSearch", "reasoning"], usage: used(3748, 543, 2304, 448), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-local-shell-tool.1.chunks.txt", messages: 0, steps: &["reasoning", "localShell"], usage: used(407, 151, 0, 128), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-mcp-tool-approval.2.chunks.txt", text: (470, "ould you like?"), steps: &["mcpListTools", "reasoning"], usage: used(553, 371, 0, 256), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-mcp-tool-approval.4.chunks.txt", text: (221, "tection added?"), steps: &["mcpListTools", "mcp"], usage: used(779, 69, 0, 0), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-phase.1.chunks.txt", messages: 2, text: (1638, "th timestamps."), usage: used(7112, 463, 3072, 64), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-shell-container-multiturn.1.chunks.txt", text: (50, "it Intel/AMD)."), usage: used(802, 20, 0, 0), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-shell-local-multiturn.1.chunks.txt", text: (24, "pple Silicon)."), usage: used(444, 12, 0, 0), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-shell-tool.1.chunks.txt", messages: 0, steps: &["shell"], usage: used(145, 41, 0, 0), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-shell-tool.1.chunks.txt#1", text: (426, "\n- test-server"), usage: used(331, 166, 0, 0), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/openai-web-search-tool.1.chunks.txt", text: (3645, "e details now?"), annotations: 12, steps: &["reasoning", "webSearch", "reasoning", "webSearch", "reasoning", "webSearch", "reasoning", "webSearch", "reasoning", "webSearch", "reasoning", "webSearch", "reasoning"], usage: used(31073, 4416, 3712, 3712), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/programmatic-tool-calling.1.chunks.txt", messages: 0, steps: &["reasoning", "program", "function"], usage: used(631, 87, 0, 37), end: Call("call_VgDSZztLociNcutQZWkC2fmL", "getInventory", r#"{"sku":"sku_123"}"#), ..NOTHING },
    Row { name: "vercel-ai/openai-responses/programmatic-tool-calling.3.chunks.txt", text: (127, "of 11 units**."), steps: &["programOutput"], usage: used(757, 35, 0, 0), ..NOTHING },
    Row { name: "local/llama-responses.sse", text: (84, "h your family."), usage: Some([Some(24), Some(21), Some(45), Some(23), None]), ..NOTHING },
];

/// A recording as a server sends it. Those that hold one JSON text a line have no `event:` lines then.
fn stream_of(folder: &std::path::Path, name: &str) -> String {
    let (file, part) = name.split_once('#').unwrap_or((name, "0"));
    let recorded = std::fs::read_to_string(folder.join(file)).unwrap();
    if file.ends_with(".sse") {
        return recorded;
    }
    let mut responses: Vec<String> = Vec::new();
    for line in recorded.lines().filter(|line| !line.trim().is_empty()) {
        if line.contains(r#""type":"response.created""#) {
            responses.push(String::new());
        }
        let event = format!("data: {line}\n\n");
        responses.last_mut().unwrap().push_str(&event);
    }
    responses.swap_remove(part.parse().unwrap())
}

/// What the items say that the server gave when each was whole: text and reasoning.
fn told(stream: &str) -> (String, String) {
    let (mut text, mut summaries) = (String::new(), Vec::new());
    let events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    for event in events.map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let item = &event["item"];
        if event["type"] != "response.output_item.done" {
            continue;
        }
        for part in item["content"].as_array().into_iter().flatten() {
            text += part["text"].as_str().unwrap_or_default();
        }
        for part in item["summary"].as_array().into_iter().flatten() {
            summaries.push(part["text"].as_str().unwrap().to_owned());
        }
    }
    (text, summaries.join("\n\n"))
}

#[track_caller]
fn check(row: &Row, stream: &str, (events, end): &(Vec<Event>, End)) {
    let name = row.name;
    assert_eq!((text(events), reasoning(events)), told(stream), "{name}");
    assert_eq!(text(events).chars().count(), row.text.0, "{name}");
    assert!(text(events).ends_with(row.text.1), "{name}");
    assert_eq!(reasoning(events).chars().count(), row.reasoning, "{name}");
    assert_eq!(annotations(events).len(), row.annotations, "{name}");
    let begun = events
        .iter()
        .filter(|event| matches!(event, Event::MessageStarted { .. }));
    let done = events.iter().filter(|event| matches!(event, Event::MessageDone));
    assert_eq!((begun.count(), done.count()), (row.messages, row.messages), "{name}");

    let mut last: Vec<&assistd::protocol::RunStep> = Vec::new();
    for step in steps(events) {
        match last.iter_mut().find(|known| known.id == step.id) {
            Some(known) => {
                assert_ne!(**known, *step, "{name}: reported twice");
                *known = step;
            }
            None => last.push(step),
        }
    }
    let kinds = last
        .iter()
        .map(|step| step.calls.first().map_or(&*step.kind, |call| &*call.kind));
    assert_eq!(kinds.collect::<Vec<_>>(), row.steps, "{name}");
    let wanted = |step: &assistd::protocol::RunStep| step.calls.iter().any(|call| call.kind == "function");
    for step in &last {
        let expected = if wanted(step) { "inProgress" } else { "completed" };
        assert_eq!(step.status, expected, "{name}: {step:?}");
    }

    let used = usage(events).map(|usage| {
        let counted = [usage.input_tokens, usage.output_tokens, usage.total_tokens].map(Some);
        [
            counted[0],
            counted[1],
            counted[2],
            usage.cached_tokens,
            usage.reasoning_tokens,
        ]
    });
    assert_eq!(used, row.usage, "{name}");
    match (&row.end, end) {
        (Turn, end) => assert_eq!(*end, END_TURN, "{name}"),
        (Call(id, tool, arguments), End::ToolCalls(calls)) => {
            assert_eq!(calls[..], [call(id, tool, arguments)], "{name}")
        }
        (Ending::Failed(kind), End::Failed(error)) => assert_eq!(error.kind(), *kind, "{name}"),
        (_, end) => panic!("{name}: {end:?}"),
    }
    let unknown = events.iter().filter(|event| matches!(event, Event::Upstream { .. }));
    assert_eq!(unknown.count(), 0, "{name}: an event without words of ours");
}

/// The stream in chunks that end at these places.
fn cut_at(stream: &[u8], places: impl IntoIterator<Item = usize>) -> Reply {
    let mut reply = Reply::events("");
    let mut begin = 0;
    for place in places.into_iter().chain([stream.len()]) {
        let place = place.min(stream.len());
        if place > begin {
            reply = reply.bytes(&stream[begin..place]);
            begin = place;
        }
    }
    reply
}

/// Every way in which a stream is cut. A small one is cut before each of its bytes; a large one around each end of an
/// event, where a parser's states are, and at strides.
fn cuts(stream: &[u8]) -> Vec<Reply> {
    const SMALL: usize = 16 * 1024;
    let mut cuts = Vec::new();
    let (every, firsts) = if stream.len() <= SMALL { (97, 97) } else { (991, 5) };
    for first in 0..firsts {
        cuts.push(cut_at(stream, (first..stream.len()).step_by(every)));
    }
    if stream.len() <= SMALL {
        cuts.push(cut_at(stream, 1..stream.len()));
    }
    let ends: Vec<usize> = memchr::memmem::find_iter(stream, b"\n\n").map(|at| at + 2).collect();
    for shift in -3..=3_isize {
        cuts.push(cut_at(stream, ends.iter().map(|end| end.saturating_add_signed(shift))));
    }
    cuts
}

#[tokio::test]
async fn every_recorded_stream_is_what_the_table_says_however_it_is_cut() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let upstream = Upstream::start([]).await;
    let provider = provider_with(&settings(&upstream));
    for row in ROWS {
        let stream = stream_of(&fixtures, row.name);
        upstream.push(Reply::events(&stream));
        let whole = collect(provider.answer(request("u1:hello"))).await;
        check(row, &stream, &whole);
        let whole = (joined(whole.0), whole.1);
        for (place, cut) in cuts(stream.as_bytes()).into_iter().enumerate() {
            upstream.push(cut);
            let (events, end) = collect(provider.answer(request("u1:hello"))).await;
            assert!((joined(events), end) == whole, "{} cut in way {place}", row.name);
        }
    }
}

#[tokio::test]
async fn the_shortest_stream_is_the_same_cut_in_two_at_every_byte() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let stream = stream_of(
        &fixtures,
        "vercel-ai/openai-responses/openai-local-shell-tool.1.chunks.txt",
    );
    let upstream = Upstream::start([Reply::events(&stream)]).await;
    let provider = provider_with(&settings(&upstream));
    let whole = collect(provider.answer(request("u1:hello"))).await;
    for place in 1..stream.len() {
        upstream.push(cut_at(stream.as_bytes(), [place]));
        let cut = collect(provider.answer(request("u1:hello"))).await;
        assert!(cut == whole, "cut at {place}");
    }
}

#[tokio::test]
async fn no_recording_of_this_api_is_left_out() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let names = |folder: &str| {
        let entries = std::fs::read_dir(fixtures.join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
    };
    let dotnet = names("openai-dotnet")
        .into_iter()
        .filter(|name| name.contains("/Responses"));
    for name in dotnet.chain(names("vercel-ai/openai-responses")) {
        assert!(ROWS.iter().any(|row| row.name == name), "`{name}` is in no row");
    }
}
