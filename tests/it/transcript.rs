//! Transcripts: what a client says and what it hears, played against a daemon over an in-memory pipe, in both framings.
//!
//! `transcripts/README.md` describes the files. `UPDATE=1` writes them anew from what was heard. A transcript fails if a
//! message is left unread or the end is not clean.

mod compare;
mod file;
mod player;

use std::path::{Path, PathBuf};

use assistd::config::Framing;

use file::Transcript;

/// One test for each file, so that their names show in the output; and one that none is forgotten.
macro_rules! transcripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_transcript_is_played() {
            let mut files: Vec<String> = std::fs::read_dir(folder())
                .expect("the folder of transcripts is part of the project")
                .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".txt")?.to_owned()))
                .collect();
            files.sort();
            let mut listed = vec![$(stringify!($name)),*];
            listed.sort();
            assert_eq!(files, listed, "name each file of tests/it/transcripts in `transcripts!`");
        }
    };
}

transcripts! {
    auth_token
    auth_token_refused
    bad_input_headers
    bad_input_lines
    bad_messages
    batch
    batch_of_sends
    busy_error
    busy_idle
    busy_interrupt
    busy_queue
    cancel
    cancel_at_once
    content
    content_refused
    end_of_input
    end_of_input_tools
    events
    events_chosen
    exit
    exit_in_batch
    failures
    ids
    initialize
    initialize_empty
    initialize_late
    initialize_refused
    initialize_small
    input_limit
    mcp
    mcp_failed
    mcp_mixed
    mcp_mixed_called
    mcp_unasked
    models
    notification
    omitted
    params
    pipe
    provider_check
    provider_check_wrong
    reading
    script
    send
    settings
    settings_wrong
    shutdown
    shutdown_at_once
    side_by_side
    specification
    status
    thread_deleted
    threads
    tool_outputs
    tool_outputs_refused
    tools
    tools_deferred
    tools_in_silence
    tools_rounds
    tools_timeout
    tools_unanswered
    unknown
}

/// Plays a transcript in each framing that it is for.
fn check(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let mut transcript = Transcript::read(&path);
    if std::env::var_os("UPDATE").is_some_and(|update| !update.is_empty()) {
        let framing = transcript.framing.unwrap_or(Framing::Lines);
        transcript.rewrite(&player::record(&transcript, framing));
        transcript = Transcript::read(&path);
    }
    for framing in [Framing::Lines, Framing::Headers] {
        if transcript.framing.is_some_and(|only| only != framing) {
            continue;
        }
        if let Err(failure) = player::play(&transcript, framing) {
            panic!("{}\n({framing:?}; UPDATE=1 writes the file anew)\n", failure);
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts")
}
