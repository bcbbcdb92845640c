//! What reads the streams: lines with the time at which they were read, and the check that no delta is missing, repeated
//! or out of order.

use std::io::{self, Read};

use memchr::memchr;

use crate::upstream::{RECORD, now};

/// Lines as they come.
pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// What was read and not given yet.
    start: usize,
    end: usize,
    read_at: u64,
}

impl<R: Read> Lines<R> {
    pub fn new(source: R) -> Self {
        Lines {
            source,
            buffer: vec![0; 256 * 1024],
            start: 0,
            end: 0,
            read_at: 0,
        }
    }

    /// The next line, and when its last byte was read; none at the end.
    pub fn next(&mut self) -> io::Result<Option<(&[u8], u64)>> {
        let mut searched = self.start;
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[searched..self.end]) {
                let line = self.start..searched + length;
                self.start = line.end + 1;
                return Ok(Some((&self.buffer[line], self.read_at)));
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            searched = self.end;
            if self.end == self.buffer.len() {
                self.buffer.resize(self.end * 2, 0);
            }
            match self.source.read(&mut self.buffer[self.end..])? {
                0 => return Ok(None),
                count => self.end += count,
            }
            self.read_at = now();
        }
    }
}

/// The deltas of some streams, as they arrive.
pub struct Deltas {
    streams: Vec<Stream>,
    /// How long each delta took from the upstream's write to here, in nanoseconds.
    pub latencies: Vec<u64>,
    /// When the first one was read.
    pub first: Option<u64>,
    /// When the last one was read.
    pub last: u64,
    /// What is wrong with the first one that is.
    wrong: Option<String>,
}

#[derive(Default, Clone)]
struct Stream {
    arrived: usize,
    /// Part of a record, where a text was cut inside it.
    rest: Vec<u8>,
}

impl Deltas {
    pub fn of(streams: usize) -> Self {
        Deltas {
            streams: vec![Stream::default(); streams],
            latencies: Vec::new(),
            first: None,
            last: 0,
            wrong: None,
        }
    }

    /// Takes a piece of a stream's text.
    pub fn take(&mut self, stream: usize, text: &[u8], read_at: u64) {
        let Some(place) = self.streams.get_mut(stream) else {
            return self.complain(format!("a delta of the stream {stream}, which nobody asked for"));
        };
        let mut rest = std::mem::take(&mut place.rest);
        rest.extend_from_slice(text);
        let records = rest.chunks_exact(RECORD);
        place.rest.extend_from_slice(records.remainder());
        for record in records {
            self.take_record(stream, record, read_at);
        }
    }

    fn take_record(&mut self, stream: usize, record: &[u8], read_at: u64) {
        let expected = self.streams[stream].arrived;
        let numbers = parse(record).filter(|found| (found.0, found.1) == (stream, expected));
        let Some((_, _, stamp)) = numbers else {
            let found = String::from_utf8_lossy(record);
            return self.complain(format!("expected delta {expected} of stream {stream}, found `{found}`"));
        };
        self.streams[stream].arrived += 1;
        self.latencies.push(read_at.saturating_sub(stamp));
        self.first.get_or_insert(read_at);
        self.last = read_at;
    }

    fn complain(&mut self, problem: String) {
        self.wrong.get_or_insert(problem);
    }

    /// An error unless every stream has brought exactly this many deltas, each once and in order.
    pub fn check(&self, each: usize) -> Result<(), String> {
        if let Some(problem) = &self.wrong {
            return Err(problem.clone());
        }
        let short = self
            .streams
            .iter()
            .position(|stream| stream.arrived != each || !stream.rest.is_empty());
        match short {
            Some(number) => {
                let arrived = self.streams[number].arrived;
                Err(format!("expected {each} deltas of stream {number}, found {arrived}"))
            }
            None => Ok(()),
        }
    }

    /// The latency that this share of the deltas does not exceed, in microseconds.
    pub fn latency(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted
            .get(place)
            .map_or(f64::NAN, |nanoseconds| *nanoseconds as f64 / 1e3)
    }
}

fn parse(record: &[u8]) -> Option<(usize, usize, u64)> {
    let text = std::str::from_utf8(record).ok()?;
    let mut numbers = text.strip_prefix('@')?.strip_suffix(';')?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()? as usize, next()? as usize, next()?))
}
