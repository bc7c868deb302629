//! Network counters of a container, as `/proc/PID/net/dev` shows them.

use std::{fs::File, io::Read};

use workload::InterfaceUsage;

/// Longest table that is read, in bytes: some thousand interfaces.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// Counters of the network that a process sees; empty if it has ended.
pub(crate) fn counters(pid: u32) -> Vec<InterfaceUsage> {
    let mut text = String::new();
    let read = File::open(format!("/proc/{pid}/net/dev"))
        .and_then(|file| file.take(TABLE_BYTES_MAX).read_to_string(&mut text));
    if read.is_ok() { parse(&text) } else { Vec::new() }
}

/// Source: proc_pid_net(5), `/proc/pid/net/dev`. The loopback interface is not counted, as
/// Docker does not.
fn parse(text: &str) -> Vec<InterfaceUsage> {
    text.lines().skip(2).filter_map(line).filter(|interface| interface.name != "lo").collect()
}

fn line(line: &str) -> Option<InterfaceUsage> {
    let (name, counters) = line.rsplit_once(':')?;
    let counters: Vec<u64> = counters.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let counter = |at: usize| counters.get(at).copied();
    Some(InterfaceUsage {
        name: name.trim().to_owned(),
        receive_bytes: counter(0)?,
        receive_packets: counter(1)?,
        receive_errors: counter(2)?,
        receive_dropped: counter(3)?,
        transmit_bytes: counter(8)?,
        transmit_packets: counter(9)?,
        transmit_errors: counter(10)?,
        transmit_dropped: counter(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_column() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes ...\n\
            \x20   lo:     9    1    0    0    0     0          0         0        9       1    0    0    0     0       0          0\n\
            \x20 eth0: 1 2 3 4 5 6 7 8 11 12 13 14 15 16 17 18\n broken: 1 2\n";
        let [eth0] = parse(text).try_into().unwrap();
        assert_eq!(eth0.name, "eth0");
        assert_eq!((eth0.receive_bytes, eth0.receive_dropped), (1, 4));
        assert_eq!((eth0.transmit_bytes, eth0.transmit_dropped), (11, 14));
    }
}
