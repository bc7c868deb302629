//! Whether an image's counts are what its tables refer to, found the long way.

use std::collections::HashMap;

use super::*;

/// How an image stands.
struct Audit {
    /// Clusters that are referred to more often than they are counted: the image is broken.
    broken: Vec<String>,
    /// Clusters that are counted more often than they are referred to.
    leaked: usize,
}

/// The image is whole and nothing is wasted.
pub(super) fn clean(file: &File) {
    let audit = audit(&bytes_of(file));
    assert!(audit.broken.is_empty() && audit.leaked == 0, "{:?} {}", audit.broken, audit.leaked);
}

/// The image is whole; clusters that nobody uses may be counted.
pub(super) fn whole(file: &File) {
    let audit = audit(&bytes_of(file));
    assert!(audit.broken.is_empty(), "{:?}", audit.broken);
}

fn audit(bytes: &[u8]) -> Audit {
    let header = Header::parse(&bytes[..bytes.len().min(HEADER_MAX)]).unwrap();
    let shape = Shape { version: header.version, cluster_bits: header.cluster_bits };
    let long = |at: u64| {
        let at = usize::try_from(at).unwrap();
        u64::from_be_bytes(*bytes.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; 8]))
    };
    let cluster = shape.cluster();
    let entries = cluster / 8;
    let mut used: HashMap<u64, u64> = HashMap::new();
    let mut own = Vec::new();
    let mut refer = |at: u64, bytes: u64| {
        for cluster in at / cluster..(at + bytes).div_ceil(cluster) {
            *used.entry(cluster).or_default() += 1;
        }
    };
    refer(0, 1);
    let counts_bytes = u64::from(header.refcount_clusters) * cluster;
    refer(header.refcounts_at, counts_bytes);
    refer(header.l1_at, header.l1_entries as u64 * 8);
    for n in 0..counts_bytes / 8 {
        let block = long(header.refcounts_at + 8 * n);
        if block != 0 {
            refer(block, 1);
        }
    }
    for n in 0..header.l1_entries as u64 {
        let Some((table, is_own)) = decode_l1(long(header.l1_at + 8 * n), cluster).unwrap() else {
            continue;
        };
        refer(table, 1);
        own.extend(is_own.then_some(table));
        for n in 0..entries {
            match shape.decode(long(table + 8 * n)).unwrap() {
                Entry::Absent | Entry::Zero { kept: None } => {}
                Entry::Data { at, own: false } | Entry::Zero { kept: Some(at) } => refer(at, 1),
                Entry::Data { at, own: true } => {
                    refer(at, 1);
                    own.push(at);
                }
                Entry::Compressed(packed) => refer(packed.at, packed.bytes as u64),
            }
        }
    }
    let count = |cluster_number: u64| {
        // All images that are audited have counts of 16 bits.
        let per_block = cluster / 2;
        let block_at = header.refcounts_at + 8 * (cluster_number / per_block);
        let block = if cluster_number / per_block < counts_bytes / 8 { long(block_at) } else { 0 };
        if block == 0 { 0 } else { long(block + 2 * (cluster_number % per_block)) >> 48 }
    };
    let last = bytes.len() as u64 / cluster + 2;
    let mut audit = Audit { broken: Vec::new(), leaked: 0 };
    for cluster in 0..last {
        let (count, used) = (count(cluster), used.get(&cluster).copied().unwrap_or(0));
        if used > count {
            audit.broken.push(format!("cluster {cluster}: used {used}, counted {count}"));
        }
        audit.leaked += usize::from(used < count);
    }
    for at in own {
        if used.get(&(at / cluster)) != Some(&1) {
            audit.broken.push(format!("cluster at {at:#x} is no entry's own"));
        }
    }
    let beyond = used.keys().filter(|cluster| **cluster >= last);
    audit.broken.extend(beyond.map(|cluster| format!("cluster {cluster} is beyond the file")));
    audit
}
