//! What a fuzzer calls.

use std::sync::{Arc, Mutex};

use super::{Config, GUEST_CID_MIN, HEADER_BYTES, Header, Mux};

/// Most bytes behind a header: more than a guest may send.
const PAYLOAD_MAX: usize = 70_000;

/// Packets of a guest's, one after the other: each a header and two bytes, of which the first says
/// how many kilobytes follow the header, and the second what the host does meanwhile.
pub fn packets(bytes: &[u8]) {
    let config = Config { cid: GUEST_CID_MIN, listener: None, path: None };
    let Ok(mut mux) = Mux::new(config) else { return };
    let ends = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&ends);
    let keep = move |stream| kept.lock().expect("nobody panics with it").push(stream);
    mux.host().listen(1, Box::new(keep));
    let payload = vec![7; PAYLOAD_MAX];
    let mut out = vec![0; 4096];
    for packet in bytes.chunks_exact(HEADER_BYTES + 2) {
        let Some((header, [kilobytes, host])) = packet.split_first_chunk::<HEADER_BYTES>() else {
            return;
        };
        let header = Header::parse(header);
        let length = (usize::from(*kilobytes) << 10).min(PAYLOAD_MAX);
        mux.take(&header, &payload[..length]);
        let mut ends = ends.lock().expect("nobody panics with it");
        match host % 4 {
            0 => drop(ends.pop()),
            1 => {
                for end in ends.iter() {
                    let flags = rustix::net::SendFlags::DONTWAIT;
                    let _ = rustix::net::send(end, &payload[..length], flags);
                }
            }
            2 => {
                for end in ends.iter() {
                    let flags = rustix::net::RecvFlags::DONTWAIT;
                    let _ = rustix::net::recv(end, &mut out[..], flags);
                }
            }
            _ => {}
        }
        drop(ends);
        mux.serve();
        for _ in 0..host >> 2 {
            let Some(header) = mux.next(&mut out) else { break };
            assert!(usize::try_from(header.bytes).is_ok_and(|bytes| bytes <= out.len()));
        }
    }
}

/// A script of a hostile driver's: see [`crate::fuzzing::device`].
pub fn device(script: &[u8]) {
    let config = Config { cid: GUEST_CID_MIN, listener: None, path: None };
    let Ok(device) = super::Vsock::new(config) else { return };
    device.host().listen(1, Box::new(drop));
    if let Ok((near, far)) = std::os::unix::net::UnixStream::pair() {
        // Whether it is taken is up to the guest.
        let _ = device.host().connect(5, far.into());
        let _ = rustix::net::send(&near, &[7; 5000], rustix::net::SendFlags::DONTWAIT);
        crate::fuzzing::device(device, script);
    }
}
