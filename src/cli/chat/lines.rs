//! The user's lines: by a line editor with history where everything is a terminal, else as they come from the pipe.
//!
//! Reading blocks, so a thread of its own does it, one line when it is asked for. Between two lines the terminal is as
//! the shell left it, so Ctrl-C is a signal then; within the editor it clears the line.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use reedline::{
    FileBackedHistory, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, Signal,
};
use tokio::sync::oneshot;

use crate::cli::consent;

/// As in the original sample.
pub const PROMPT: &str = "User: ";

/// How long the editor may take to put the terminal back.
const GIVE_UP: Duration = Duration::from_millis(500);

/// How many lines the history keeps.
const HISTORY: usize = 1000;

/// What the user did.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// Entered a line.
    Text(String),
    /// Cleared it with Ctrl-C.
    Cleared,
    /// Ended the input.
    End,
}

/// The end that asks for lines.
pub struct Lines {
    wanted: mpsc::Sender<Wanted>,
    under_way: Option<oneshot::Receiver<Line>>,
    is_edited: bool,
    is_terminal: bool,
    /// Makes the editor give up its line, so that it puts the terminal back.
    is_stopped: Arc<AtomicBool>,
}

/// A line that somebody waits for.
struct Wanted {
    prompt: &'static str,
    reply: oneshot::Sender<Line>,
}

impl Lines {
    /// Starts the thread. The history is kept in this file, or for this session only.
    pub fn start(history: Option<PathBuf>) -> Lines {
        let is_terminal = io::stdin().is_terminal();
        let is_edited = is_terminal && io::stdout().is_terminal() && io::stderr().is_terminal();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (wanted, requests) = mpsc::channel();
        let stop = is_stopped.clone();
        std::thread::spawn(move || match is_edited {
            true => give(requests, edited(history.as_deref(), stop)),
            false => give(requests, piped()),
        });
        Lines {
            wanted,
            under_way: None,
            is_edited,
            is_terminal,
            is_stopped,
        }
    }

    /// Whether the prompt is drawn by the editor.
    pub fn shows_prompt(&self) -> bool {
        self.is_edited
    }

    /// Whether what the user enters is seen on the screen, its line feed too.
    pub fn is_echoed(&self) -> bool {
        self.is_terminal
    }

    /// The next line, which is a question. Safe to drop: the next call goes on waiting for the same line.
    pub async fn next(&mut self) -> Line {
        self.line(PROMPT).await
    }

    /// The next line, which answers a question of ours; it is in no history. Safe to drop as well.
    pub async fn consent(&mut self) -> Line {
        self.line(consent::PROMPT).await
    }

    async fn line(&mut self, prompt: &'static str) -> Line {
        let under_way = self.under_way.get_or_insert_with(|| {
            let (reply, line) = oneshot::channel();
            // A thread that has ended drops the reply, which reads as the end of the input.
            let _ = self.wanted.send(Wanted { prompt, reply });
            line
        });
        let line = under_way.await.unwrap_or(Line::End);
        self.under_way = None;
        line
    }

    /// Ends an editor that waits for a line. A pipe is left alone, and so is an editor that does not give up: one whose
    /// terminal is gone reads for ever, and ends with the process.
    pub async fn stop(&mut self) {
        if self.is_edited && self.under_way.is_some() {
            self.is_stopped.store(true, Ordering::Relaxed);
            let _ = tokio::time::timeout(GIVE_UP, self.next()).await;
        }
    }
}

/// Gives a line for each request, until nobody asks any more.
fn give(requests: mpsc::Receiver<Wanted>, mut read: impl FnMut(&'static str) -> Line) {
    for Wanted { prompt, reply } in requests {
        let _ = reply.send(read(prompt));
    }
}

/// Reads lines as they come. What is not UTF-8 is replaced.
fn piped() -> impl FnMut(&'static str) -> Line {
    let mut input = io::stdin().lock();
    move |_| {
        let mut line = Vec::new();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => Line::End,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                Line::Text(text.trim_end_matches(['\n', '\r']).to_owned())
            }
        }
    }
}

/// Reads lines with the editor.
fn edited(history: Option<&Path>, stop: Arc<AtomicBool>) -> impl FnMut(&'static str) -> Line {
    let plain = || {
        Reedline::create()
            .use_bracketed_paste(true)
            .with_ansi_colors(std::env::var_os("NO_COLOR").is_none())
            .with_break_signal(stop.clone())
    };
    let (mut editor, mut answers) = (plain(), plain());
    // A history that cannot be kept is one for this session.
    if let Some(Ok(history)) = history.map(open_history) {
        editor = editor.with_history(Box::new(history));
    }
    move |prompt| {
        let editor = if prompt == PROMPT { &mut editor } else { &mut answers };
        match editor.read_line(&Words(prompt)) {
            Ok(Signal::Success(text)) => {
                // Written at once: a process that is killed loses no line.
                let _ = editor.sync_history();
                Line::Text(text)
            }
            Ok(Signal::CtrlC) => Line::Cleared,
            Ok(_) | Err(_) => Line::End,
        }
    }
}

/// The history in this file, which only its owner can read: it holds what was asked.
fn open_history(file: &Path) -> Result<FileBackedHistory, Box<dyn std::error::Error>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        if let Some(folder) = file.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(file)?;
    }
    Ok(FileBackedHistory::with_file(HISTORY, file.to_owned())?)
}

/// A prompt of these words, and nothing that moves.
struct Words(&'static str);

impl Prompt for Words {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        self.0.into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing found, ",
        };
        format!("({failing}search: {}) ", search.term).into()
    }
}
