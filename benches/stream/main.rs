//! How fast assistd passes a stream on, beside curl, which reads the very same stream in the same run: `cargo bench`.
//!
//! A fake upstream in this process, assistd as a child with its journal on, and the reader of its output here. Rounds
//! take turns between the two, and ratios are of one round, since the machine's other work changes from one to the next.
//! A delta that is missing, repeated or out of order is a failure; a figure never is.
//!
//! `--quick` is a smoke test of one short round, `--rounds N` changes their number (5), `--binary PATH` measures
//! another program than the one that was just built.

mod peers;
mod process;
mod reader;
mod syscalls;
mod table;
mod upstream;
mod wire;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use peers::{Daemon, Place, curl};
use reader::Deltas;
use table::Table;
use upstream::{Ask, now};
use wire::Wire;

/// How much one round does.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    flood: usize,
    paced: usize,
    streams: usize,
    /// Of each of the streams.
    side_by_side: usize,
}

const FULL: Plan = Plan {
    rounds: 5,
    flood: 200_000,
    paced: 1000,
    streams: 100,
    side_by_side: 50,
};

const QUICK: Plan = Plan {
    rounds: 1,
    flood: 20_000,
    paced: 100,
    streams: 10,
    side_by_side: 10,
};

const PACE: Duration = Duration::from_millis(1);
const SIDE_BY_SIDE_PACE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stream: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut plan = FULL;
    let mut binary = PathBuf::from(env!("CARGO_BIN_EXE_assistd"));
    let mut arguments = std::env::args().skip(1);
    // Cargo gives `--bench` where figures are wanted; without it this is one more test.
    let mut is_bench = false;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("expected a value behind `{argument}`"));
        match &*argument {
            "--bench" => is_bench = true,
            "--quick" => plan = QUICK,
            "--rounds" => plan.rounds = value()?.parse()?,
            "--binary" => binary = value()?.into(),
            _ => return Err(format!("unknown argument `{argument}`").into()),
        }
    }
    if !is_bench {
        plan = QUICK;
    }
    let home = tempfile::tempdir()?;
    let place = Place {
        binary,
        folder: home.path().to_owned(),
        port: upstream::start()?,
        wire: Wire::Assistants,
    };
    place.write_settings()?;
    if cfg!(debug_assertions) {
        println!("This is a build for development: its figures say little.");
    }
    let mut table = Table::default();
    // The first start makes the database; all others find it.
    Daemon::start(&place)?.settle()?;
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        start(&place, &mut table)?;
        let mut daemon = first_delta(&place, &mut table)?;
        paced(&place, plan, &mut daemon, &mut table)?;
        flood(&place, plan, &mut daemon, &mut table)?;
        daemon.end()?;
        for wire in [Wire::Chat, Wire::Responses] {
            flood_of(&place.speaking(wire), plan, &mut table)?;
        }
        side_by_side(&place, plan, &mut table)?;
    }
    let traced = syscalls::per_delta(&place, plan.paced, &mut table)?;
    println!("{}", table.text());
    println!(
        "Median [least–most] of {} rounds; ratios are of one round.",
        plan.rounds
    );
    println!(
        "Flood: {} deltas of 32 bytes, each an HTTP chunk, in writes of 32 KiB.",
        plan.flood
    );
    println!(
        "1 ms: {} deltas. Side by side: {} streams of a delta each 20 ms.",
        plan.paced, plan.streams
    );
    println!("{traced}");
    Ok(())
}

/// From the start of the process to the answer to `initialize`, and what it weighs then.
fn start(place: &Place, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let mut daemon = Daemon::start(place)?;
    daemon.initialize()?;
    let time = (now() - daemon.started_at) as f64 / 1e6;
    table.add("start to `initialize`, ms", "< 3", Some(time), None);
    let resident = process::resident(daemon.process());
    table.add("memory after `initialize`, MiB", "< 6", resident, None);
    let private = process::private(daemon.process());
    table.add("… not shared with the file, MiB", "", private, None);
    daemon.end()
}

/// The first delta of a new process, and of one that has answered before.
fn first_delta(place: &Place, table: &mut Table) -> Result<Daemon, Box<dyn Error>> {
    let one = flooded(1);
    let mut deltas = Deltas::of(1);
    let read = curl(place, &[one], &mut deltas)?;
    deltas.check(1)?;
    let curls = since(read.started_at, &deltas) / 1e3;

    let mut daemon = Daemon::start(place)?;
    let mut deltas = Deltas::of(1);
    daemon.send_at_once(one, &mut deltas)?;
    deltas.check(1)?;
    let cold = since(daemon.started_at, &deltas) / 1e3;
    table.add("start to first delta, ms", "", Some(cold), Some(curls));
    daemon.settle()?;
    let resident = process::resident(daemon.process());
    table.add("memory after a first answer, MiB", "", resident, None);

    let mut deltas = Deltas::of(1);
    let asked_at = now();
    daemon.send(&[one], &mut deltas)?;
    deltas.check(1)?;
    table.add(
        "request to first delta, warm, µs",
        "",
        Some(since(asked_at, &deltas)),
        None,
    );
    daemon.settle()?;
    Ok(daemon)
}

/// One stream of a delta a millisecond.
fn paced(place: &Place, plan: Plan, daemon: &mut Daemon, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let ask = Ask {
        deltas: plan.paced,
        interval: PACE,
        stream: 0,
    };
    let (curls, read) = curl_cpu(place, &[ask])?;
    let (ours, deltas) = daemon_cpu(daemon, &[ask])?;
    let share = |share| (Some(deltas.latency(share)), Some(read.latency(share)));
    let (p50, p99) = (share(0.5), share(0.99));
    table.add("1 ms: latency p50, µs", "", p50.0, p50.1);
    table.add("1 ms: latency p99, µs", "", p99.0, p99.1);
    table.add("1 ms: CPU a delta, µs", "", ours, curls);
    Ok(())
}

/// One stream as fast as it can be read.
fn flood(place: &Place, plan: Plan, daemon: &mut Daemon, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let ask = flooded(plan.flood);
    let (curls, read) = curl_cpu(place, &[ask])?;
    let (ours, deltas) = daemon_cpu(daemon, &[ask])?;
    table.add("flood: CPU a delta, µs", "≤ 1.5 ×", ours, curls);
    let rate = |deltas: &Deltas| {
        let first = deltas.first?;
        Some(plan.flood as f64 / (deltas.last - first) as f64 * 1e6)
    };
    table.add("flood: 1000 deltas a second", "", rate(&deltas), rate(&read));
    let peak = process::peak_resident(daemon.process());
    table.add("flood: most memory, MiB", "", peak, None);
    Ok(())
}

/// The same in another dialect, in a process of its own.
fn flood_of(place: &Place, plan: Plan, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let ask = flooded(plan.flood);
    let (curls, _) = curl_cpu(place, &[ask])?;
    let mut daemon = Daemon::start(place)?;
    daemon.send(&[flooded(1)], &mut Deltas::of(1))?;
    daemon.settle()?;
    let (ours, _) = daemon_cpu(&mut daemon, &[ask])?;
    let name = match place.wire {
        Wire::Chat => "flood, chat: CPU a delta, µs",
        _ => "flood, responses: CPU a delta, µs",
    };
    table.add(name, "≤ 1.5 ×", ours, curls);
    daemon.end()
}

/// Many streams of a delta each 20 ms, in a process of their own.
fn side_by_side(place: &Place, plan: Plan, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let ask = |stream| Ask {
        deltas: plan.side_by_side,
        interval: SIDE_BY_SIDE_PACE,
        stream,
    };
    let asks: Vec<Ask> = (0..plan.streams).map(ask).collect();
    let (curls, read) = curl_cpu(place, &asks)?;
    let mut daemon = Daemon::start(place)?;
    daemon.send(&[flooded(1)], &mut Deltas::of(1))?;
    daemon.settle()?;
    let (ours, deltas) = daemon_cpu(&mut daemon, &asks)?;
    table.add(
        "side by side: latency p50, µs",
        "",
        Some(deltas.latency(0.5)),
        Some(read.latency(0.5)),
    );
    table.add(
        "side by side: latency p99, µs",
        "",
        Some(deltas.latency(0.99)),
        Some(read.latency(0.99)),
    );
    table.add("side by side: CPU a delta, µs", "", ours, curls);
    let peak = process::peak_resident(daemon.process());
    table.add("side by side: most memory, MiB", "", peak, None);
    daemon.end()
}

fn flooded(deltas: usize) -> Ask {
    Ask {
        deltas,
        interval: Duration::ZERO,
        stream: 0,
    }
}

/// From this moment to the first delta, in microseconds.
fn since(start: u64, deltas: &Deltas) -> f64 {
    deltas.first.map_or(f64::NAN, |first| (first - start) as f64 / 1e3)
}

/// curl's processor time for each of the deltas, in microseconds, without what its start and end cost.
fn curl_cpu(place: &Place, asks: &[Ask]) -> Result<(Option<f64>, Deltas), Box<dyn Error>> {
    let each = asks[0].deltas;
    let start = curl(place, &[flooded(1)], &mut Deltas::of(1))?;
    let mut deltas = Deltas::of(asks.len());
    let whole = curl(place, asks, &mut deltas)?;
    deltas.check(each).map_err(|problem| format!("curl: {problem}"))?;
    let cpu = whole.cpu.zip(start.cpu).map(|(whole, start)| whole - start);
    Ok((cpu.map(|cpu| cpu * 1e6 / (each * asks.len()) as f64), deltas))
}

/// assistd's processor time for each of the deltas, in microseconds, with all that it does for a run, from the request
/// to the database.
fn daemon_cpu(daemon: &mut Daemon, asks: &[Ask]) -> Result<(Option<f64>, Deltas), Box<dyn Error>> {
    let each = asks[0].deltas;
    let before = process::cpu(daemon.process());
    let mut deltas = Deltas::of(asks.len());
    daemon.send(asks, &mut deltas)?;
    daemon.settle()?;
    let after = process::cpu(daemon.process());
    deltas.check(each).map_err(|problem| format!("assistd: {problem}"))?;
    let cpu = after.zip(before).map(|(after, before)| after - before);
    Ok((cpu.map(|cpu| cpu * 1e6 / (each * asks.len()) as f64), deltas))
}
