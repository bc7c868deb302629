//! A balloon that is blown up and asked.

use super::*;
use crate::testing::{Buffer, Rig};

fn balloon(features: u64) -> Rig<Balloon> {
    // The balloon's memory is another than that of the rings, so that both can be looked at.
    Rig::new(Balloon::new(GuestMemory::new(64 * PAGE as u64).unwrap()), features)
}

fn pages(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Which of the first pages are still as they were filled.
fn left(memory: &GuestMemory) -> Vec<usize> {
    let filled = |page: &usize| memory.get::<u8>(page * PAGE) != 0;
    (0..memory.bytes() / PAGE).filter(filled).collect()
}

#[test]
fn pages_that_are_given_go_back_to_the_host() {
    let mut rig = balloon(F_DEFLATE_ON_OOM);
    let memory = rig.with(|balloon, _| balloon.memory.clone());
    memory.fill(0, 7, 64 * PAGE).unwrap();
    let gone = pages(&[9, 3, 4, 5, 4, 62, 63, 64, 1 << 20, u32::MAX]);
    assert_eq!(rig.request(0, &[Buffer::Read(&gone), Buffer::Read(&[1, 2])]).unwrap().written, 0);
    let mut want: Vec<usize> = (0..64).collect();
    want.retain(|page| ![9, 3, 4, 5].contains(page));
    // The last run goes beyond the end, and so as a whole it is not memory.
    assert_eq!(left(&memory), want);
    assert_eq!(rig.with(|balloon, _| balloon.returned()), 4 * PAGE as u64);
    assert!(rig.request(1, &[Buffer::Read(&pages(&[9]))]).is_some());
}

#[test]
fn the_target_is_what_the_driver_reads() {
    let rig = balloon(0);
    rig.with(|balloon, queues| balloon.set_target(10 * PAGE as u64 + 5, queues));
    assert_eq!([rig.get(0x60), rig.get(0xfc), rig.get(0x100)], [2, 1, 10]);
    rig.set(0x104, 8);
    rig.set(0x100, 99);
    let now = rig.with(|balloon, _| (balloon.target(), balloon.actual()));
    assert_eq!(now, (10 * PAGE as u64, 8 * PAGE as u64));
    rig.with(|balloon, queues| balloon.set_target(u64::MAX, queues));
    assert_eq!(rig.get(0x100), 64, "no more than there is");
}

#[test]
fn free_pages_are_reported_whichever_queue_it_is() {
    for (features, queue) in [(F_REPORTING, 2), (F_REPORTING | F_STATISTICS, 3)] {
        let mut rig = Rig::bare(Balloon::new(GuestMemory::new(PAGE as u64).unwrap()));
        let memory = rig.memory.clone();
        rig.with(|balloon, _| balloon.memory = memory.clone());
        assert_eq!(rig.negotiate(features | 1 << 32), 15);
        let ring = &mut rig.rings[queue];
        let at = 4 << 20;
        memory.fill(at, 7, 8 * PAGE).unwrap();
        ring.descriptor(0, at + PAGE as u64, 2 * 4096, 2 | 1, 1);
        ring.descriptor(1, at + 5 * PAGE as u64 + 1, 2 * 4096, 2, 0);
        ring.offer(0);
        rig.process(u16::try_from(queue).unwrap());
        let there: Vec<u8> =
            (0..8).map(|page| memory.load(at + page * PAGE as u64 + 50).unwrap()).collect();
        assert_eq!(there, [7, 0, 0, 7, 7, 7, 0, 7]);
    }
}

#[test]
fn statistics_come_when_they_are_asked_for() {
    let mut rig = balloon(F_STATISTICS);
    let report = |values: &[(u16, u64)]| -> Vec<u8> {
        let pair =
            |(tag, value): &(u16, u64)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
        values.iter().flat_map(pair).collect()
    };
    let first = report(&[(4, 1000), (5, 2000), (99, 1)]);
    assert_eq!(rig.request(2, &[Buffer::Read(&first)]), None, "the device keeps the buffer");
    let said = rig.with(|balloon, _| balloon.statistics());
    assert_eq!(said, Statistics { free: Some(1000), total: Some(2000), ..Statistics::default() });
    // The buffer that is kept is saved.
    let saved = rig.mmio.save().unwrap();
    rig.with(|balloon, _| balloon.state.buffer = None);
    rig.mmio
        .restore(serde_json::from_value(serde_json::to_value(saved).unwrap()).unwrap())
        .unwrap();
    rig.with(|balloon, queues| balloon.ask_statistics(queues));
    assert!(rig.rings[2].used().is_some());
    rig.with(|balloon, queues| balloon.ask_statistics(queues));
    assert_eq!(rig.rings[2].used(), None, "there is nothing to give back");
    let second = [report(&[(6, 7)]), vec![0; 9]].concat();
    assert_eq!(rig.request(2, &[Buffer::Read(&second)]), None);
    let said = rig.with(|balloon, _| balloon.statistics());
    assert_eq!(said, Statistics { available: Some(7), ..Statistics::default() });
    assert!(rig.request(2, &[Buffer::Read(&second)]).is_some(), "one buffer is enough");
}
