//! The `embedded` dialect with its real model, through the provider's contract.

mod content;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assistd::config::{Dialect, EMBEDDED_INSTRUCTIONS, ProviderSettings};
use assistd::error::Kind;
use assistd::protocol::{Image, Options, Part, Role, StageName, StageStatus, StopReason, Tool, Truncation, Usage};
use assistd::provider::check::Wanted;
use assistd::provider::embedded::{Embedded, weights};
use assistd::provider::{End, Event, Provider, Request};
use assistd::thread::{Conversation, Message};
use futures::StreamExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Where the weights are: as the program itself looks for them.
pub fn cache_dir() -> PathBuf {
    let dir = std::env::var_os("ASSISTD_CACHE_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let strategy = etcetera::choose_base_strategy().expect("there is a home folder");
            etcetera::BaseStrategy::cache_dir(&strategy).join("assistd")
        });
    let path = weights::path(&dir);
    assert!(
        path.is_file(),
        "there is no file `{}`: run `assistd model fetch` (or `make test`, which does)",
        path.display()
    );
    dir
}

fn provider() -> Embedded {
    Embedded::new("embedded", &settings(), cache_dir(), false)
}

fn settings() -> ProviderSettings {
    ProviderSettings::new(Dialect::Embedded)
}

/// A greedy request for a short answer; the messages alternate, the user's first.
fn request(texts: &[&str]) -> Request {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    Request {
        model: None,
        instructions: Some(EMBEDDED_INSTRUCTIONS.to_owned()),
        conversation: Arc::new(Conversation {
            messages: roles
                .zip(texts)
                .map(|(role, text)| Message::text("m", role, *text))
                .collect(),
            truncation: Truncation::Auto,
        }),
        tools: Vec::new(),
        options: Options {
            temperature: Some(0.0),
            max_output_tokens: Some(64),
            ..Options::default()
        },
        anchor: None,
        rounds: Vec::new(),
        cancel: CancellationToken::new(),
    }
}

async fn events(provider: &Embedded, request: Request) -> Vec<Event> {
    provider.answer(request).collect().await
}

/// What the events say, each kind once: a picture of their order.
fn kinds(events: &[Event]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events
        .iter()
        .map(|event| match event {
            Event::Status(status) => status,
            Event::MessageStarted { .. } => "message",
            Event::Delta { .. } => "delta",
            Event::MessageDone => "done",
            Event::Usage(_) => "usage",
            Event::End(_) => "end",
            Event::Upstream { name, .. } => name,
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    kinds.dedup();
    kinds
}

fn text(events: &[Event]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        Event::Delta { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn usage(events: &[Event]) -> Usage {
    let usage = events.iter().find_map(|event| match event {
        Event::Usage(usage) => Some(*usage),
        _ => None,
    });
    usage.expect("figures come before the end")
}

fn end(events: &[Event]) -> &End {
    match events.last() {
        Some(Event::End(end)) => end,
        other => panic!("expected the end, got {other:?}"),
    }
}

fn failure(events: &[Event]) -> &assistd::error::Error {
    match end(events) {
        End::Failed(error) => error,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn a_check_finds_the_weights_and_what_is_in_them() {
    let stages = provider().check(Wanted::default()).await;
    let passed: Vec<StageName> = stages
        .iter()
        .filter(|stage| stage.status == StageStatus::Passed)
        .map(|stage| stage.stage)
        .collect();
    assert_eq!(
        passed,
        [StageName::Settings, StageName::Weights, StageName::Architecture],
        "{stages:?}"
    );
    assert!(stages[1].details.bytes.is_some_and(|bytes| bytes > 100_000_000));
    assert_eq!(provider().models().await.unwrap(), ["smollm2"]);

    let no_model = Wanted {
        model: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
        ..Wanted::default()
    };
    let stages = provider().check(no_model).await;
    assert_eq!(stages[2].status, StageStatus::Failed, "{stages:?}");
}

#[tokio::test]
async fn a_question_is_answered_in_the_promised_order() {
    let provider = provider();
    provider.prepare().await.unwrap();
    assert!(provider.loaded().is_none());
    let events = events(&provider, request(&["What is the capital of France?"])).await;
    assert!(text(&events).contains("Paris"), "{}", text(&events));
    assert_eq!(
        kinds(&events),
        ["inProgress", "message", "delta", "done", "usage", "end"]
    );
    assert_eq!(end(&events), &End::Completed(StopReason::EndTurn));
    let usage = usage(&events);
    assert_eq!(
        (usage.cached_tokens, usage.total_tokens),
        (Some(0), usage.input_tokens + usage.output_tokens)
    );
    let deltas = events
        .iter()
        .filter(|event| matches!(event, Event::Delta { .. }))
        .count();
    assert_eq!(deltas as u64, usage.output_tokens);
}

#[tokio::test]
async fn the_second_turn_knows_the_first_and_reads_only_what_is_new() {
    let first = "What is the capital of Japan?";
    let second = "What language do people speak there?";
    let warm = provider();
    let answer = text(&events(&warm, request(&[first])).await);
    assert!(answer.contains("Tokyo"), "{answer}");
    let history = [first, &answer, second];
    let with_history = events(&warm, request(&history)).await;
    assert!(text(&with_history).contains("Japanese"), "{}", text(&with_history));
    let figures = usage(&with_history);
    assert!(figures.cached_tokens.unwrap() * 2 > figures.input_tokens, "{figures:?}");

    // The same from nothing but the history, as after a restart.
    let cold = provider();
    let from_history = events(&cold, request(&history)).await;
    assert!(text(&from_history).contains("Japanese"), "{}", text(&from_history));
    assert_eq!(usage(&from_history).cached_tokens, Some(0));
    // Another history is not taken for this one.
    let alone = events(&warm, request(&[second])).await;
    assert!(!text(&alone).contains("Japanese"), "{}", text(&alone));
    assert_eq!(usage(&alone).cached_tokens, Some(0));
}

#[tokio::test]
async fn a_cut_answer_is_gone_on_from() {
    let provider = provider();
    let mut short = request(&["Tell me a long story about a river."]);
    short.options.max_output_tokens = Some(5);
    let cut = events(&provider, short).await;
    assert_eq!(end(&cut), &End::Incomplete(StopReason::MaxTokens));
    assert_eq!(kinds(&cut), ["inProgress", "message", "delta", "usage", "end"]);
    let figures = usage(&cut);
    assert_eq!(figures.output_tokens, 5);

    let mut next = request(&["Tell me a long story about a river.", &text(&cut), "Go on."]);
    next.options.max_output_tokens = Some(1);
    let next = events(&provider, next).await;
    // The last token was written but not read.
    assert_eq!(usage(&next).cached_tokens, Some(figures.total_tokens - 1));
}

#[tokio::test]
async fn a_seed_repeats_an_answer() {
    let provider = provider();
    let sampled = |seed| {
        let mut request = request(&["Tell me something."]);
        request.options.temperature = Some(1.0);
        request.options.seed = Some(seed);
        request.options.max_output_tokens = Some(24);
        request
    };
    let first = text(&events(&provider, sampled(7)).await);
    assert_eq!(text(&events(&provider, sampled(7)).await), first);
    assert_ne!(text(&events(&provider, sampled(8)).await), first);
}

#[tokio::test]
async fn a_cancelled_answer_gives_no_more_text_and_leaves_the_model_free() {
    let provider = provider();
    let request_ = request(&["Tell me a long story about a river."]);
    let cancel = request_.cancel.clone();
    let mut stream = provider.answer(request_);
    while !matches!(stream.next().await, Some(Event::Delta { .. })) {}
    cancel.cancel();
    let rest: Vec<Event> = stream.collect().await;
    assert_eq!(kinds(&rest), ["usage", "end"]);
    assert_eq!(end(&rest), &End::Cancelled);
    let after = events(&provider, request(&["What is the capital of France?"])).await;
    assert!(text(&after).contains("Paris"));
}

#[tokio::test]
async fn a_dropped_stream_leaves_the_model_free() {
    let provider = provider();
    let mut stream = provider.answer(request(&["Tell me a long story about a river."]));
    while !matches!(stream.next().await, Some(Event::Delta { .. })) {}
    drop(stream);
    let after = events(&provider, request(&["What is the capital of France?"])).await;
    assert!(text(&after).contains("Paris"));
}

#[tokio::test]
async fn who_waits_is_told_and_can_leave_the_queue() {
    let provider = provider();
    let mut running = provider.answer(request(&["Tell me a long story about a river."]));
    assert_eq!(running.next().await, Some(Event::Status("inProgress".into())));
    let leaving = request(&["Hi"]);
    let cancel = leaving.cancel.clone();
    let mut leaves = provider.answer(leaving);
    let mut waits = provider.answer(request(&["What is the capital of France?"]));
    for stream in [&mut leaves, &mut waits] {
        assert_eq!(stream.next().await, Some(Event::Status("queued".into())));
    }
    cancel.cancel();
    assert_eq!(leaves.collect::<Vec<_>>().await, [Event::End(End::Cancelled)]);
    drop(running);
    let answered: Vec<Event> = waits.collect().await;
    assert_eq!(
        kinds(&answered),
        ["inProgress", "message", "delta", "done", "usage", "end"]
    );
}

#[tokio::test]
async fn an_idle_model_leaves_memory_and_comes_back() {
    let provider = provider().unloading_after(Duration::ZERO);
    for _ in 0..2 {
        let events = events(&provider, request(&["What is the capital of France?"])).await;
        assert!(text(&events).contains("Paris"));
        let mut loaded = provider.loaded().unwrap();
        loaded.wait_for(|is_loaded| !is_loaded).await.unwrap();
    }
    let mut loaded = provider.loaded().unwrap();
    drop(provider);
    while loaded.changed().await.is_ok() {}
}

#[tokio::test]
async fn what_does_not_fit_is_left_out_or_refused() {
    let provider = provider();
    let long = "The weather is fine today. ".repeat(900);
    let question = "What is the capital of France?";
    let left_out = events(&provider, request(&[&long, "Yes.", question])).await;
    assert!(left_out.contains(&Event::Truncated { messages: 2 }));
    assert!(text(&left_out).contains("Paris"));

    let whole = request(&[&long, "Yes.", question]);
    let mut strict = whole.clone();
    let messages = whole.conversation.messages.clone();
    strict.conversation = Arc::new(Conversation {
        messages,
        truncation: Truncation::Error,
    });
    assert_eq!(failure(&events(&provider, strict).await).kind(), Kind::ContextOverflow);
    let error = events(&provider, request(&[&long])).await;
    let error = failure(&error);
    assert_eq!(error.kind(), Kind::ContextOverflow);
    assert!(error.message.contains("the conversation does not fit"), "{error}");
    assert_eq!(error.data.provider.as_deref(), Some("embedded"));
}

#[tokio::test]
async fn tools_are_passed_over_with_a_word_and_images_refused() {
    let provider = provider();
    let mut with_tool = request(&["What is the capital of France?"]);
    let tool: Tool = serde_json::from_value(json!({ "name": "look" })).unwrap();
    with_tool.tools.push(tool);
    let events_ = events(&provider, with_tool).await;
    let ignored = Event::Upstream {
        name: "toolsIgnored".into(),
        data: json!({ "tools": ["look"] }),
    };
    assert!(events_.contains(&ignored));
    assert!(text(&events_).contains("Paris"));

    let mut with_image = request(&[]);
    let mut message = Message::text("m", Role::User, "What is this?");
    message.content.push(Part::Image(Image::default()));
    with_image.conversation = Arc::new(Conversation {
        messages: vec![message],
        truncation: Truncation::Auto,
    });
    let refused = events(&provider, with_image).await;
    assert_eq!(failure(&refused).kind(), Kind::InvalidParams);
    assert_eq!(refused.len(), 1);
}

#[tokio::test]
async fn a_model_is_named_or_a_path() {
    let path = weights::path(&cache_dir());
    let mut by_path = settings();
    by_path.model = Some(path.display().to_string());
    let provider = Embedded::new("mine", &by_path, "nowhere".into(), false);
    provider.prepare().await.unwrap();
    let answered = events(&provider, request(&["What is the capital of France?"])).await;
    assert!(text(&answered).contains("Paris"));

    let mut unknown = request(&["Hi"]);
    unknown.model = Some("gpt-9".to_owned());
    let unknown = events(&provider, unknown).await;
    let error = failure(&unknown);
    assert_eq!(
        (error.kind(), error.message.as_ref()),
        (Kind::NotFound, "no model `gpt-9`")
    );
    assert_eq!(
        error.data.hint.as_deref(),
        Some(
            "the embedded model, which answers where no provider is set up, is `smollm2` or any GGUF file by its path"
        )
    );

    let mut missing = request(&["Hi"]);
    missing.model = Some("./none.gguf".to_owned());
    assert_eq!(failure(&events(&provider, missing).await).kind(), Kind::NotFound);
}

#[tokio::test]
async fn missing_weights_name_the_command_that_fetches_them() {
    let empty = tempfile::tempdir().unwrap();
    let provider = Embedded::new("embedded", &settings(), empty.path().into(), false);
    let error = provider.prepare().await.unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    assert!(error.data.hint.unwrap().contains("`assistd model fetch`"));
    assert_eq!(error.data.provider.as_deref(), Some("embedded"));
    assert!(provider.loaded().is_none());
}
