//! System calls a delta, counted by strace: those of a paced stream less those of a stream of one delta.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::peers::{Daemon, Place};
use crate::reader::Deltas;
use crate::table::Table;
use crate::upstream::Ask;

/// Slow enough that a process which strace holds up does not take two deltas for one.
const PACE: Duration = Duration::from_millis(2);

/// Adds the figure to the table. The result says which calls they are.
pub fn per_delta(place: &Place, deltas: usize, table: &mut Table) -> Result<String, Box<dyn Error>> {
    let mut version = Command::new("strace");
    if version
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        return Ok("System calls were not counted: strace is missing (`apt install strace`).".to_owned());
    }
    let (few, many) = (counts(place, 1)?, counts(place, 1 + deltas)?);
    let mut each: Vec<(f64, &str)> = many
        .iter()
        .map(|(name, count)| {
            let more = *count as f64 - few.get(name).copied().unwrap_or(0) as f64;
            (more / deltas as f64, &**name)
        })
        .collect();
    each.sort_by(|a, b| b.0.total_cmp(&a.0));
    let sum = each.iter().map(|(count, _)| count).sum();
    table.add("1 delta each 2 ms: system calls", "≤ 6", Some(sum), None);
    let named = each.iter().filter(|(count, _)| *count >= 0.02);
    let named: Vec<String> = named.map(|(count, name)| format!("{name} {count:.2}")).collect();
    Ok(format!("System calls a delta: {}", named.join(", ")))
}

/// How often each system call was made for an answer of so many deltas, start and end included.
fn counts(place: &Place, deltas: usize) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let path = place.folder.join("syscalls");
    let mut daemon = Daemon::start_traced(place, &path)?;
    let ask = Ask {
        deltas,
        interval: PACE,
        stream: 0,
    };
    let mut arrived = Deltas::of(1);
    daemon.send(&[ask], &mut arrived)?;
    arrived.check(deltas)?;
    daemon.end()?;
    let text = fs::read_to_string(path)?;
    Ok(text.lines().filter_map(row).collect())
}

/// A row of the table: its fourth column is the number of calls, its last the name.
fn row(line: &str) -> Option<(String, u64)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let name = *columns.last().filter(|name| **name != "total")?;
    Some((name.to_owned(), columns.get(3)?.parse().ok()?))
}
