//! Background responses over real sockets: their process is killed, their client goes away, their connection breaks,
//! and each is followed to its end by whoever comes next, with one request for it in all.

mod service;

use serde_json::{Value, json};

use super::Daemon;
use super::ends::pipes;
use crate::program::Home;
use crate::responses::whole_turn;
use crate::upstream::Reply;
use service::{Service, WHOLE, stream};

const POST: &str = "POST /v1/responses";
const TAKE_UP: &str = "GET /v1/responses/resp_1?stream=true";
const CANCEL: &str = "POST /v1/responses/resp_1/cancel";

/// A daemon that tells of every event, and whose client can call tools.
fn start(home: &Home) -> Daemon {
    let mut daemon = Daemon::run(home.command(&["--stdio"]), pipes());
    let capabilities = json!({ "events": "all", "toolCall": true });
    daemon.request(0, "initialize", json!({ "capabilities": capabilities }));
    daemon.result(0);
    daemon
}

/// A run whose upstream has sent what comes before the mark, all of which was taken: its daemon, thread and run.
fn begin(home: &Home) -> (Daemon, Value, Value) {
    let mut daemon = start(home);
    daemon.ask(1, "first");
    until_mark(daemon)
}

fn until_mark(mut daemon: Daemon) -> (Daemon, Value, Value) {
    daemon.until("the mark", |message| message["params"]["name"] == "test.mark");
    let run = daemon.notification("assistant/started", 1);
    (daemon, run["threadId"].clone(), run["runId"].clone())
}

/// What a new daemon finds once the run has ended: the run and its messages, and what the upstream is told with the
/// next message, which is answered.
fn outcome(service: &Service, home: &Home, thread: &Value, run: &Value) -> Value {
    service.upstream.push(Reply::events(whole_turn("Done.")));
    let mut daemon = Daemon::start(home);
    daemon.ask_in(1, thread, "second");
    assert_eq!(daemon.result(1)["text"], "Done.");
    let outcome = look(&mut daemon, thread, run);
    daemon.leave();
    let told = service.upstream.requests().pop().unwrap().json();
    json!({ "seen": outcome, "told": [told["input"], told["previous_response_id"]] })
}

/// The run and its thread, without what differs each time.
fn look(daemon: &mut Daemon, thread: &Value, run: &Value) -> Value {
    daemon.request(2, "run/get", json!({ "runId": run }));
    let mut seen = daemon.result(2);
    seen["messages"] = json!(seen["messages"].as_array().unwrap().len());
    for member in ["runId", "threadId", "createdAt", "endedAt", "seq"] {
        seen.as_object_mut().unwrap().remove(member);
    }
    daemon.request(3, "thread/read", json!({ "threadId": thread }));
    let read = daemon.result(3);
    let messages = read["messages"].as_array().unwrap().iter().rev();
    let messages = messages.map(|message| json!([message["role"], message["status"], message["content"]]));
    json!({ "run": seen, "messages": messages.collect::<Vec<_>>() })
}

/// The outcome of a run that nothing befell.
fn unbroken(service: &Service, settings: &str) -> Value {
    let home = service.home(settings);
    service.upstream.push(Reply::events(service.events.concat()));
    let mut daemon = start(&home);
    daemon.ask(1, "first");
    let answer = daemon.result(1);
    daemon.leave();
    let outcome = outcome(service, &home, &answer["threadId"], &answer["runId"]);
    assert_eq!(outcome["seen"]["run"]["text"], WHOLE, "{outcome:#}");
    assert_eq!(outcome["seen"]["run"]["status"], "completed", "{outcome:#}");
    outcome
}

async fn with_service(events: Vec<String>, test: impl FnOnce(&Service) + Send + 'static) {
    let service = Service::start(events).await;
    tokio::task::spawn_blocking(move || test(&service)).await.unwrap();
}

/// History kept here, and upstream.
const HISTORIES: [&str; 2] = ["", "history = \"upstream\""];

#[tokio::test]
async fn killed_behind_any_event_it_is_taken_up_and_is_the_unbroken_one() {
    with_service(stream(), |service| {
        for settings in HISTORIES {
            let whole = unbroken(service, settings);
            for count in 1..service.events.len() {
                let (home, before) = (service.home(settings), service.count());
                service.stalls_behind(count);
                let (mut daemon, thread, run) = begin(&home);
                let shown = daemon.text(1);
                daemon.kill();
                assert!(WHOLE.starts_with(&shown));
                let outcome = outcome(service, &home, &thread, &run);
                assert_eq!(outcome, whole, "killed behind event {count}, {settings}");
                assert_eq!(
                    service.asked(before),
                    [POST, TAKE_UP, POST],
                    "killed behind event {count}"
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn killed_behind_any_event_it_is_asked_for_where_no_stream_can_be_had() {
    with_service(stream(), |service| {
        let whole = unbroken(service, "");
        service.kept.lock().unwrap().is_whole_only = true;
        for count in 1..service.events.len() {
            let (home, before) = (service.home(""), service.count());
            service.stalls_behind(count);
            let (mut daemon, thread, run) = begin(&home);
            daemon.kill();
            let outcome = outcome(service, &home, &thread, &run);
            assert_eq!(outcome, whole, "killed behind event {count}");
            assert_eq!(service.asked(before), [POST, TAKE_UP, "GET /v1/responses/resp_1", POST]);
        }
    })
    .await;
}

/// The second round of a run is a response of its own.
#[tokio::test]
async fn killed_behind_its_tool_call_it_goes_on_with_the_output() {
    const TOOL: &str = "[assistants.work]\nprovider = \"test\"\ntools = [{ name = \"weather\" }]\n";
    let call = |service: &Service, home: &Home, second: Reply| {
        let calling = crate::responses::calling("c1").replace("resp_1", "resp_0");
        service.upstream.push(Reply::events(calling));
        service.upstream.push(second);
        let mut daemon = start(home);
        let ask = json!({ "content": "first", "assistant": "work" });
        daemon.request(1, "assistant/send", ask);
        let call = daemon.until("a call", |message| message["method"] == "tool/call");
        daemon.say(&json!({ "jsonrpc": "2.0", "id": call["id"], "result": { "output": "A" } }));
        daemon
    };
    with_service(stream(), move |service| {
        let home = service.home(TOOL);
        let mut daemon = call(service, &home, Reply::events(service.events.concat()));
        let answer = daemon.result(1);
        assert_eq!(answer["text"], WHOLE);
        daemon.leave();
        let whole = outcome(service, &home, &answer["threadId"], &answer["runId"]);
        for count in 0..service.events.len() {
            let (home, before) = (service.home(TOOL), service.count());
            let daemon = call(service, &home, service.stalling(count));
            let (mut daemon, thread, run) = until_mark(daemon);
            daemon.kill();
            let outcome = outcome(service, &home, &thread, &run);
            if count == 0 {
                // It has no name by then, and the call stands with its output.
                assert_eq!(outcome["seen"]["run"]["stopReason"], "daemonKilled");
                assert_eq!(outcome["told"][0][2]["output"], "A", "{outcome:#}");
                continue;
            }
            assert_eq!(outcome, whole, "killed behind event {count}");
            assert_eq!(service.asked(before), [POST, POST, TAKE_UP, POST]);
        }
    })
    .await;
}

#[tokio::test]
async fn killed_before_its_response_has_a_name_it_is_interrupted() {
    with_service(stream(), |service| {
        let home = service.home("");
        service.stalls_behind(0);
        let (mut daemon, thread, run) = begin(&home);
        daemon.kill();
        let outcome = outcome(service, &home, &thread, &run);
        let run = &outcome["seen"]["run"];
        assert_eq!(
            (&run["status"], &run["stopReason"]),
            (&json!("interrupted"), &json!("daemonKilled"))
        );
        assert_eq!(service.asked(0), [POST, POST], "it cannot be asked for");
    })
    .await;
}

/// Waits until the run has this much text, in bytes.
fn until_text(daemon: &mut Daemon, run: &Value, length: usize) {
    for id in 100.. {
        daemon.request(id, "run/get", json!({ "runId": run }));
        let seen = daemon.result(id);
        let text = seen["text"].as_str().unwrap_or_default();
        assert!(seen["status"] == "inProgress" && WHOLE.starts_with(text), "{seen}");
        if text.len() >= length {
            return;
        }
    }
}

#[tokio::test]
async fn whoever_took_it_up_may_be_killed_behind_any_piece_of_it() {
    // How many events bring how much of the text.
    const PIECES: [(usize, &str); 4] = [
        (8, "Grüße "),
        (10, "Grüße 🍲 eins"),
        (12, "Grüße 🍲 eins"),
        (18, "Grüße 🍲 einsZwei "),
    ];
    with_service(stream(), |service| {
        let whole = unbroken(service, "");
        for (first, _) in PIECES {
            for (second, text) in PIECES.into_iter().filter(|(second, _)| *second > first) {
                let home = service.home("");
                service.stalls_behind(first);
                let (mut daemon, thread, run) = begin(&home);
                daemon.kill();
                service.kept.lock().unwrap().stalls_behind = Some(second);
                let mut daemon = Daemon::start(&home);
                until_text(&mut daemon, &run, text.len());
                daemon.kill();
                service.kept.lock().unwrap().stalls_behind = None;
                let outcome = outcome(service, &home, &thread, &run);
                assert_eq!(outcome, whole, "killed behind events {first} and {second}");
            }
        }
    })
    .await;
}

/// Two editors come back at once.
#[tokio::test]
async fn of_two_daemons_one_takes_it_up() {
    with_service(stream(), |service| {
        let whole = unbroken(service, "");
        for _ in 0..5 {
            let (home, before) = (service.home(""), service.count());
            service.stalls_behind(9);
            let (mut daemon, thread, run) = begin(&home);
            daemon.kill();
            let mut both = [Daemon::start(&home), Daemon::start(&home)];
            for id in 1.. {
                both.iter_mut()
                    .for_each(|daemon| daemon.request(id, "run/get", json!({ "runId": run })));
                let seen = both.each_mut().map(|daemon| daemon.result(id)["status"].clone());
                if seen.iter().all(|status| status != "inProgress") {
                    break;
                }
            }
            both.into_iter().for_each(Daemon::leave);
            assert_eq!(outcome(service, &home, &thread, &run), whole);
            assert_eq!(service.asked(before), [POST, TAKE_UP, POST]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_breaks_again_goes_on_behind_the_last_event() {
    with_service(stream(), |service| {
        let whole = unbroken(service, "");
        let before = service.count();
        // Broken while its daemon lives.
        let home = service.home("");
        let broken = Reply::events(service.events[..9].concat()).reset();
        service.upstream.push(broken);
        service.kept.lock().unwrap().breaks_behind = Some(11);
        let mut daemon = start(&home);
        daemon.ask(1, "first");
        let answer = daemon.result(1);
        assert_eq!((daemon.text(1), &answer["text"]), (WHOLE.to_owned(), &json!(WHOLE)));
        daemon.leave();
        let after = |number: u32| format!("{TAKE_UP}&starting_after={number}");
        assert_eq!(service.asked(before), [POST.to_owned(), after(8), after(10)]);
        assert_eq!(outcome(service, &home, &answer["threadId"], &answer["runId"]), whole);
        // Broken while it is taken up.
        let (home, before) = (service.home(""), service.count());
        service.stalls_behind(9);
        let (mut daemon, thread, run) = begin(&home);
        daemon.kill();
        service.kept.lock().unwrap().breaks_behind = Some(8);
        assert_eq!(outcome(service, &home, &thread, &run), whole);
        assert_eq!(
            service.asked(before),
            [POST.to_owned(), TAKE_UP.to_owned(), after(7), POST.to_owned()]
        );
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_it_to_the_next_daemon() {
    with_service(stream(), |service| {
        let whole = unbroken(service, "");
        for count in [1, 8, 14, 20] {
            let (home, before) = (service.home(""), service.count());
            service.stalls_behind(count);
            let (mut daemon, thread, run) = begin(&home);
            daemon.close_output();
            daemon.finish(0);
            assert_eq!(service.asked(before), [POST], "the upstream is not told to stop");
            // Whoever only looks leaves it as well.
            service.kept.lock().unwrap().stalls_behind = Some(count);
            let seen = home.request("run/get", json!({ "runId": run }));
            assert_eq!(seen["status"], "inProgress", "{seen}");
            service.kept.lock().unwrap().stalls_behind = None;
            let outcome = outcome(service, &home, &thread, &run);
            assert_eq!(outcome, whole, "left behind event {count}");
            let mut asked = service.asked(before);
            asked.retain(|asked| asked != TAKE_UP);
            assert_eq!(asked, [POST, POST]);
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_cancels_it_means_it() {
    with_service(stream(), |service| {
        for is_taken_up in [false, true] {
            let (home, before) = (service.home(""), service.count());
            service.stalls_behind(9);
            let (mut daemon, thread, run) = begin(&home);
            if is_taken_up {
                daemon.kill();
                service.kept.lock().unwrap().stalls_behind = Some(9);
                daemon = Daemon::start(&home);
                daemon.request(1, "run/get", json!({ "runId": run }));
                daemon.result(1);
            }
            daemon.request(2, "assistant/cancel", json!({ "runId": run }));
            assert_eq!(daemon.result(2)["runs"][0]["runId"], run);
            if !is_taken_up {
                assert_eq!(daemon.result(1)["status"], "cancelled");
            }
            daemon.leave();
            let outcome = outcome(service, &home, &thread, &run);
            let seen = &outcome["seen"]["run"];
            assert_eq!(
                (&seen["status"], &seen["stopReason"], &seen["text"]),
                (&json!("cancelled"), &json!("cancelled"), &json!("Grüße 🍲 "))
            );
            let mut asked = service.asked(before);
            asked.retain(|asked| asked != TAKE_UP);
            assert_eq!(asked, [POST, CANCEL, POST], "taken up: {is_taken_up}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_response_that_the_upstream_has_forgotten_is_interrupted() {
    with_service(stream(), |service| {
        service.kept.lock().unwrap().events = None;
        for (count, text, said) in [
            (2, Value::Null, 1),
            (8, json!("Grüße "), 2),
            (17, json!("Grüße 🍲 eins"), 2),
        ] {
            let (home, before) = (service.home(""), service.count());
            service.stalls_behind(count);
            let (mut daemon, thread, run) = begin(&home);
            daemon.kill();
            let outcome = outcome(service, &home, &thread, &run);
            let seen = &outcome["seen"]["run"];
            assert_eq!(
                (&seen["status"], &seen["stopReason"]),
                (&json!("interrupted"), &json!("daemonKilled")),
                "{outcome:#}"
            );
            assert_eq!(seen["error"]["data"]["kind"], "notFound", "{outcome:#}");
            assert_eq!(seen["text"].as_str(), text.as_str(), "{outcome:#}");
            let posts = service
                .asked(before)
                .into_iter()
                .filter(|asked| asked.starts_with("POST"));
            assert_eq!(posts.collect::<Vec<_>>(), [POST, POST]);
            let told = outcome["told"][0].as_array().unwrap();
            assert_eq!(told.len(), said + 1, "{told:#?}");
        }
    })
    .await;
}
