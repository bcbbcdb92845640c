//! A fast upstream that speaks every dialect on a loopback socket: one thread a connection, each delta an HTTP chunk of
//! its own, as servers send them.
//!
//! What a request wants stands in its path or body, in the words of [`Ask`]. Every delta's text is one [`RECORD`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::wire::Wire;

/// How long each delta's text is, in bytes: `@stream.number.nanoseconds;`, all three padded with zeros.
pub const RECORD: usize = 32;

/// How much of a flood is written at once, in bytes.
const FLOOD_WRITE: usize = 32 * 1024;

/// What to stream.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// How many deltas.
    pub deltas: usize,
    /// The time from one to the next; none floods.
    pub interval: Duration,
    /// Which of several streams it is; it stands in every record.
    pub stream: usize,
}

impl Ask {
    /// As it stands in a request.
    pub fn words(self) -> String {
        let interval = self.interval.as_micros();
        format!("deltas={}&interval={interval}&stream={}", self.deltas, self.stream)
    }

    fn find(request: &str) -> Option<Ask> {
        let number = |name: &str| {
            let (_, value) = request.split_once(name)?;
            let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
            value[..end].parse().ok()
        };
        Some(Ask {
            deltas: number("deltas=")? as usize,
            interval: Duration::from_micros(number("interval=")?),
            stream: number("stream=")? as usize,
        })
    }
}

/// Nanoseconds since this process first asked, by the monotonic clock.
pub fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

/// Starts the upstream. It ends with the process; the result is its port.
pub fn start() -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // A client that hangs up in the middle misses its deltas, which whoever counts them tells.
            let serve = || drop(serve(connection));
            if let Err(error) = thread::Builder::new().stack_size(256 * 1024).spawn(serve) {
                eprintln!("the upstream has no thread for a connection: {error}");
            }
        }
    });
    Ok(port)
}

fn serve(connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut output = connection.try_clone()?;
    let mut input = BufReader::new(connection);
    while let Some(request) = read_request(&mut input)? {
        // Whoever only warms a connection up.
        if request.starts_with("HEAD ") {
            output.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        let ask = Ask::find(&request).ok_or(io::ErrorKind::InvalidInput)?;
        answer(Wire::of(&request), ask, &mut output)?;
    }
    Ok(())
}

fn read_request(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut request = String::new();
    let mut length = 0;
    while !request.ends_with("\r\n\r\n") {
        let start = request.len();
        if input.read_line(&mut request)? == 0 {
            return Ok(None);
        }
        let line = request[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        }
    }
    input.take(length).read_to_string(&mut request)?;
    Ok(Some(request))
}

fn answer(wire: Wire, ask: Ask, output: &mut TcpStream) -> io::Result<()> {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    output.write_all(head)?;
    output.write_all(&chunks(&wire.opening(ask.stream)))?;
    let mut delta = Delta::new(wire, ask.stream);
    let mut said = Vec::with_capacity(ask.deltas * RECORD);
    let mut waiting = Vec::with_capacity(2 * FLOOD_WRITE);
    let start = Instant::now();
    for number in 0..ask.deltas {
        if !ask.interval.is_zero() {
            let due = start + ask.interval * (number as u32 + 1);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        waiting.extend_from_slice(delta.stamped(number));
        said.extend_from_slice(delta.record());
        if !ask.interval.is_zero() || waiting.len() >= FLOOD_WRITE {
            output.write_all(&waiting)?;
            waiting.clear();
        }
    }
    let closing = wire.closing(ask.stream, &String::from_utf8_lossy(&said));
    waiting.extend_from_slice(&chunks(&closing));
    waiting.extend_from_slice(b"0\r\n\r\n");
    output.write_all(&waiting)
}

/// The chunk of a delta, made once: only its numbers change.
struct Delta {
    chunk: Vec<u8>,
    record: usize,
}

impl Delta {
    fn new(wire: Wire, stream: usize) -> Self {
        let record = format!("@{stream:03}.000000.{:019};", 0);
        let chunk = chunk(&wire.delta(stream, &record));
        let place = chunk.windows(RECORD).position(|bytes| bytes == record.as_bytes());
        Delta {
            chunk,
            record: place.expect("the record was put into the chunk"),
        }
    }

    fn stamped(&mut self, number: usize) -> &[u8] {
        let record = &mut self.chunk[self.record..][..RECORD];
        put(number as u64, &mut record[5..11]);
        put(now(), &mut record[12..31]);
        &self.chunk
    }

    fn record(&self) -> &[u8] {
        &self.chunk[self.record..][..RECORD]
    }
}

fn put(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn chunks(events: &[String]) -> Vec<u8> {
    events.iter().flat_map(|event| chunk(event)).collect()
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}
