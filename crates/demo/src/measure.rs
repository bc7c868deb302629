//! `measure`: what this place costs, in a few seconds, as lines of a name and a number.
//!
//! The same program measures behind every wall and beside them, so the differences are the walls'.

use std::{
    env, fs,
    hint::black_box,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use crate::fail;

/// How often each is measured; the best counts, since everything that disturbs makes it slower.
const ROUNDS: u32 = 5;
const COUNTED: u32 = 20_000_000;
const CALLS: u32 = 200_000;
const SPAWNS: u32 = 20;
const BUFFER_BYTES: usize = 64 << 20;
const PAGE_BYTES: usize = 4096;
const PIECE_BYTES: usize = 1 << 20;
const PINGS: u32 = 2000;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Bytes sent to the host.
const SENT_BYTES: usize = 256 << 20;

pub(crate) fn run(args: &[String]) -> u8 {
    let (mut dir, mut host) = (None, None);
    for pair in args.chunks(2) {
        match pair {
            [flag, value] if flag == "--dir" => dir = Some(value.as_str()),
            [flag, value] if flag == "--host" => host = Some(value.as_str()),
            _ => return fail("measure", "use --dir DIR and --host ADDRESS:PORT"),
        }
    }
    tell("cpu_ops_per_s", f64::from(COUNTED) / best(count));
    tell("syscall_ns", best(calls) * 1e9 / f64::from(CALLS));
    let pages = u32::try_from(BUFFER_BYTES / PAGE_BYTES).unwrap_or(u32::MAX);
    tell("page_fault_ns", best(faults) * 1e9 / f64::from(pages));
    tell("memory_bytes_per_s", megabytes(BUFFER_BYTES) * 1e6 / best(copies()));
    if let Ok(program) = env::current_exe() {
        tell("process_start_us", best(|| spawns(&program)) * 1e6 / f64::from(SPAWNS));
    }
    if let Some(Err(error)) = dir.map(disk) {
        return fail("measure", format_args!("the disk: {error}"));
    }
    // A host that cannot be reached from here is one figure less.
    if let Some(Err(error)) = host.map(network) {
        eprintln!("measure: the network: {error}");
    }
    0
}

fn tell(name: &str, value: f64) {
    println!("{name} {value}");
}

/// Seconds of the quickest round.
fn best(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or(Duration::MAX).as_secs_f64()
}

fn count() {
    let mut sum = 1_u32;
    for n in 0..COUNTED {
        sum = black_box(sum.wrapping_mul(31).wrapping_add(n));
    }
}

fn calls() {
    for _ in 0..CALLS {
        black_box(std::os::unix::process::parent_id());
    }
}

/// Every page is new to this process.
fn faults() {
    let mut fresh: Vec<u8> = Vec::with_capacity(BUFFER_BYTES);
    for page in fresh.spare_capacity_mut().iter_mut().step_by(PAGE_BYTES) {
        page.write(1);
    }
    black_box(&fresh);
}

fn copies() -> impl FnMut() {
    let (from, mut to) = (vec![1_u8; BUFFER_BYTES], vec![0_u8; BUFFER_BYTES]);
    move || {
        to.copy_from_slice(black_box(&from));
        black_box(&to);
    }
}

fn spawns(program: &std::path::Path) {
    for _ in 0..SPAWNS {
        black_box(Command::new(program).arg("true").status().is_ok());
    }
}

/// A file of [`BUFFER_BYTES`], written through to the disk and read again from the cache.
fn disk(dir: &str) -> io::Result<()> {
    let path = std::path::Path::new(dir).join(".measure");
    let mut file =
        fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    let measured = (|| {
        let piece = vec![0x5a_u8; PIECE_BYTES];
        let began = Instant::now();
        for _ in 0..BUFFER_BYTES / PIECE_BYTES {
            file.write_all(&piece)?;
        }
        file.sync_data()?;
        tell(
            "disk_write_bytes_per_s",
            megabytes(BUFFER_BYTES) * 1e6 / began.elapsed().as_secs_f64(),
        );
        file.seek(SeekFrom::Start(0))?;
        let mut piece = piece;
        let began = Instant::now();
        while file.read(&mut piece)? > 0 {}
        tell(
            "disk_read_bytes_per_s",
            megabytes(BUFFER_BYTES) * 1e6 / began.elapsed().as_secs_f64(),
        );
        Ok(())
    })();
    measured.and(fs::remove_file(&path))
}

/// To somebody who echoes after the letter `e`, and swallows all and answers with one byte after
/// the letter `s`.
fn network(host: &str) -> io::Result<()> {
    let open = |what: u8| -> io::Result<TcpStream> {
        let address = host.parse().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.write_all(&[what])?;
        Ok(stream)
    };
    let mut echo = open(b'e')?;
    let mut byte = [1];
    let began = Instant::now();
    for _ in 0..PINGS {
        echo.write_all(&byte)?;
        echo.read_exact(&mut byte)?;
    }
    tell("network_round_trip_us", began.elapsed().as_secs_f64() * 1e6 / f64::from(PINGS));
    let mut sink = open(b's')?;
    let piece = vec![0_u8; PIECE_BYTES];
    let began = Instant::now();
    for _ in 0..SENT_BYTES / PIECE_BYTES {
        sink.write_all(&piece)?;
    }
    sink.shutdown(std::net::Shutdown::Write)?;
    sink.read_exact(&mut byte)?;
    tell("network_bytes_per_s", megabytes(SENT_BYTES) * 1e6 / began.elapsed().as_secs_f64());
    Ok(())
}

/// In millions: exact in a double.
fn megabytes(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1e6
}
