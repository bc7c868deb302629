//! `stress`: uses processors and memory, to see limits at work.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use crate::fail;

pub(crate) fn run(args: &[String]) -> u8 {
    let (mut cpus, mut memory, mut seconds) = (0_u32, 0_usize, u64::MAX);
    for pair in args.chunks(2) {
        let [flag, value] = pair else {
            return fail("stress", format_args!("{} wants a value", pair.concat()));
        };
        let known = match flag.as_str() {
            "--cpu" => value.parse().map(|n| cpus = n).is_ok(),
            "--memory" => size(value).map(|n| memory = n).is_some(),
            "--seconds" => value.parse().map(|n| seconds = n).is_ok(),
            _ => false,
        };
        if !known {
            return fail(
                "stress",
                format_args!("{flag} {value}: use --cpu N, --memory SIZE or --seconds S"),
            );
        }
    }
    let end = Instant::now().checked_add(Duration::from_secs(seconds.min(1 << 32)));
    for _ in 0..cpus {
        thread::spawn(|| {
            let mut count = 0_u64;
            loop {
                count = black_box(count.wrapping_add(1));
            }
        });
    }
    let held = hold(memory);
    if memory > 0 {
        println!("stress: holding {} MiB", held.len() >> 20);
    }
    while let Some(left) = end.map(|end| end.saturating_duration_since(Instant::now())) {
        if left.is_zero() {
            break;
        }
        thread::sleep(left);
    }
    black_box(held);
    0
}

/// Memory of which every page was written.
fn hold(bytes: usize) -> Vec<u8> {
    const PAGE: usize = 4096;
    let mut held = Vec::with_capacity(bytes);
    while held.len() < bytes {
        held.resize((held.len() + 256 * PAGE).min(bytes), 0x5a);
    }
    held
}

fn size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!((size("64m"), size("1G"), size("x")), (Some(64 << 20), Some(1 << 30), None));
    }
}
