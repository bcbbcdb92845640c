//! Threads and messages as text for a person. Pure.

use crate::cli::client::{OldMessage, OldThread};
use crate::protocol::{Part, Role, RunStatus};

/// Old messages (the newest come first) as they looked when they were said.
pub fn messages(messages: &[OldMessage], has_older: bool) -> String {
    let mut shown = String::new();
    if has_older {
        shown.push_str("[older messages are not shown]\n");
    }
    for message in messages.iter().rev() {
        shown.push_str(match message.role {
            Role::User => "User: ",
            Role::Assistant => "Assistant: ",
        });
        match &message.content {
            Some(content) => shown.push_str(&text(content)),
            None => shown.push_str("[too long to show]"),
        }
        if !shown.ends_with('\n') {
            shown.push('\n');
        }
        if message.status.is_end() && message.status != RunStatus::Completed {
            shown.push_str("[not whole]\n");
        }
    }
    shown
}

/// A list of threads, the one that is open marked.
pub fn threads(threads: &[OldThread], open: Option<&str>) -> String {
    if threads.is_empty() {
        return "[no threads]\n".to_owned();
    }
    threads
        .iter()
        .map(|thread| thread_line(thread, open == Some(&thread.thread_id)))
        .collect()
}

fn thread_line(thread: &OldThread, is_open: bool) -> String {
    let mark = if is_open { '*' } else { ' ' };
    let count = match thread.messages {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    };
    let title = thread.title.as_deref().unwrap_or_default();
    let line = format!("{mark} {}  {count}  {title}", thread.thread_id);
    format!("{}\n", line.trim_end())
}

fn text(content: &[Part]) -> String {
    let mut text = String::new();
    for part in content {
        match part {
            Part::Image(_) => text.push_str("[image]"),
            Part::File(file) => {
                let name = file.name.as_deref().or(file.file_id.as_deref());
                text.push_str(&format!("[file {}]", name.unwrap_or("without a name")));
            }
            Part::Text { .. } | Part::Refusal { .. } | Part::Resource { .. } => part.append_text(&mut text),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: Role, status: RunStatus, content: Option<Vec<Part>>) -> OldMessage {
        OldMessage { role, status, content }
    }

    #[test]
    fn messages_are_shown_oldest_first_and_say_what_is_missing() {
        let shown = messages(
            &[
                message(Role::Assistant, RunStatus::Cancelled, Some(vec![Part::text("half")])),
                message(Role::User, RunStatus::Completed, None),
                message(Role::Assistant, RunStatus::Completed, Some(vec![Part::text("a\n")])),
            ],
            true,
        );
        assert_eq!(
            shown,
            "[older messages are not shown]\nAssistant: a\nUser: [too long to show]\nAssistant: half\n[not whole]\n"
        );
    }
}
