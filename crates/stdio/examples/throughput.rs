//! How fast output of short lines goes through a keeper into the log and to one who is attached.
//!
//! `cargo run --release -p stdio --example throughput`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

use std::{
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use stdio::{ChildStreams, Keeper, StreamSpec};
use workload::{LogDriver, LogSpec};

const TOTAL_BYTES: usize = 400 << 20;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = LogSpec { path, bytes_max: 10 << 20, files_max: 3, ..LogSpec::default() };
    let json = LogSpec {
        driver: LogDriver::Json { attributes: Vec::new(), compress: false },
        ..log.clone()
    };
    for (name, log, attached) in [
        ("log", Some(log.clone()), false),
        ("attached", None, true),
        ("both", Some(log), true),
        ("json", Some(json), false),
    ] {
        let spec = StreamSpec { log, ..StreamSpec::default() };
        let seconds = measure(&spec, attached);
        println!("{name}: {:.0} MB/s", TOTAL_BYTES as f64 / seconds / 1e6);
    }
}

fn measure(spec: &StreamSpec, attach: bool) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (keeper, streams) = Keeper::open(spec).unwrap();
        let ChildStreams::Pipes { stdout, .. } = streams else { return 0.0 };
        if attach {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            keeper.attach(OwnedFd::from(theirs).into()).await.unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while ours.read(&mut buffer).unwrap() > 0 {}
            });
        }
        let begin = base::clock::monotonic();
        let writing = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::from(stdout);
            let line = b"a line of eighty bytes, which is what a program that logs a lot writes a lot of\n";
            let chunk = line.repeat(800);
            for _ in 0..TOTAL_BYTES / chunk.len() {
                file.write_all(&chunk).unwrap();
            }
        });
        writing.await.unwrap();
        keeper.finish().await;
        begin.elapsed().as_secs_f64()
    })
}
