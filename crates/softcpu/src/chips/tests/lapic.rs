//! Local APICs.

use super::*;

const SELF: u32 = 1 << 18;

fn x2(chips: &Chips, vcpu: u8) {
    let base = chips.read_msr(vcpu, 0x1b, moment(0)).unwrap();
    chips.write_msr(vcpu, 0x1b, base | 1 << 10, moment(0)).unwrap();
}

fn set(chips: &Chips, vcpu: u8, msr: u32, value: u64) -> bool {
    chips.write_msr(vcpu, msr, value, moment(0)).is_ok()
}

fn get(chips: &Chips, vcpu: u8, msr: u32) -> Option<u64> {
    chips.read_msr(vcpu, msr, moment(0)).ok()
}

#[test]
fn after_power_up_it_is_as_the_manual_says() {
    let (chips, _) = chips(2);
    let shown = [0x20, 0x30, 0x80, 0xd0, 0xe0, 0xf0, 0x320, 0x350, 0x360, 0x380];
    let of = |vcpu| shown.map(|register| read(&chips, vcpu, register));
    let masked = 0x1_0000;
    assert_eq!(of(0), [0, 0x5_0014, 0, 0, u32::MAX, 0xff, masked, 0x700, masked, 0]);
    assert_eq!(of(1), [1 << 24, 0x5_0014, 0, 0, u32::MAX, 0xff, masked, masked, masked, 0]);
    assert_eq!(get(&chips, 0, 0x1b), Some(0xfee0_0900));
    assert_eq!(get(&chips, 1, 0x1b), Some(0xfee0_0800));
}

#[test]
fn interrupts_come_by_priority_and_nest_by_class() {
    let (chips, woken) = enabled(1);
    for vector in [0x31, 0x42, 0x45] {
        write(&chips, 0, 0x300, SELF | vector);
    }
    assert_eq!(woken.take(), 1);
    assert!(chips.pending(0).interrupt);
    assert_eq!(chips.take_interrupt(0), Some(0x45));
    assert_eq!(read(&chips, 0, 0xa0), 0x40, "the processor's priority");
    assert!(!chips.pending(0).interrupt, "one of the same class waits");
    write(&chips, 0, 0x300, SELF | 0x51);
    assert_eq!(chips.take_interrupt(0), Some(0x51));
    end(&chips, 0);
    assert!(!chips.pending(0).interrupt);
    end(&chips, 0);
    assert_eq!(chips.take_interrupt(0), Some(0x42));
    end(&chips, 0);
    assert_eq!(chips.take_interrupt(0), Some(0x31));
    end(&chips, 0);
    assert!(!chips.pending(0).any());
}

#[test]
fn the_task_priority_holds_interrupts_back() {
    let (chips, woken) = enabled(1);
    chips.set_cr8(0, 4).unwrap();
    assert_eq!((chips.cr8(0), read(&chips, 0, 0x80), read(&chips, 0, 0xa0)), (4, 0x40, 0x40));
    write(&chips, 0, 0x300, SELF | 0x4f);
    woken.take();
    assert_eq!((chips.pending(0).interrupt, chips.take_interrupt(0)), (false, None));
    chips.set_cr8(0, 3).unwrap();
    assert_eq!(woken.take(), 1, "it is told that it can go on");
    assert_eq!(chips.take_interrupt(0), Some(0x4f));
    assert!(chips.set_cr8(0, 16).is_err());
}

#[test]
fn what_software_switched_off_takes_nothing_but_nmis_and_starts() {
    let (chips, _) = chips(2);
    for mode in [0, 4 << 8, 5 << 8, 6 << 8] {
        write(&chips, 0, 0x310, 1 << 24);
        write(&chips, 0, 0x300, mode | 0x99);
    }
    let pending = chips.pending(1);
    assert!(pending.init && pending.nmi && pending.startup && !pending.interrupt);
    // Switched on again, the entries stay masked until they are written.
    write(&chips, 1, 0xf0, 0x1ff);
    write(&chips, 1, 0x370, 0x44);
    write(&chips, 1, 0xf0, 0xff);
    assert_eq!(read(&chips, 1, 0x370), 0x1_0044);
    write(&chips, 1, 0x370, 0x44);
    assert_eq!(read(&chips, 1, 0x370), 0x1_0044);
}

#[test]
fn a_processor_is_started_by_init_and_startup() {
    let (chips, woken) = enabled(2);
    write(&chips, 0, 0x310, 1 << 24);
    write(&chips, 0, 0x300, 0xc500);
    assert_eq!(woken.take(), 2);
    write(&chips, 0, 0x300, 0x8500);
    assert!(chips.take_init(1));
    assert_eq!(read(&chips, 1, 0xf0), 0xff, "INIT resets it");
    assert!(!chips.pending(1).any(), "the de-assert is no second INIT");
    write(&chips, 0, 0x300, 0x0608);
    assert_eq!(chips.take_startup(1), Some(8));
    assert_eq!(chips.take_startup(1), None);
    // One that came after INIT is for the processor that INIT makes.
    write(&chips, 0, 0x300, 0x0609);
    write(&chips, 0, 0x300, 0xc500);
    write(&chips, 0, 0x300, 0x060a);
    woken.take();
    assert!(chips.take_init(1));
    assert_eq!(woken.take(), 2, "there is more for it");
    assert_eq!(chips.take_startup(1), Some(10));
}

#[test]
fn destinations_are_whom_they_name() {
    let (chips, woken) = enabled(4);
    for vcpu in 0..4 {
        write(&chips, vcpu, 0xd0, 1 << (24 + u32::from(vcpu)));
    }
    let sent = |high: u32, low: u32| {
        write(&chips, 1, 0x310, high << 24);
        write(&chips, 1, 0x300, low | 0x50);
        let took = (0..4).filter(|n| chips.take_interrupt(*n).is_some());
        let took = took.fold(0, |set, n| set | 1 << n);
        (0..4).for_each(|n| end(&chips, n));
        assert_eq!(woken.take() & took, took);
        took
    };
    assert_eq!(sent(2, 0), 0b100);
    assert_eq!(sent(9, 0), 0);
    assert_eq!(sent(0xff, 0), 0b1111);
    assert_eq!(sent(0b1010, 1 << 11), 0b1010);
    assert_eq!(sent(0, 1 << 18), 0b10);
    assert_eq!(sent(0, 2 << 18), 0b1111);
    assert_eq!(sent(0, 3 << 18), 0b1101);
    // Clusters: the upper half of a destination is a number, the lower a set.
    for (vcpu, logical) in [(0, 0x11), (1, 0x12), (2, 0x21), (3, 0x22)] {
        write(&chips, vcpu, 0xe0, 0x0fff_ffff);
        write(&chips, vcpu, 0xd0, logical << 24);
    }
    assert_eq!(sent(0x23, 1 << 11), 0b1100);
    assert_eq!(sent(0x11, 1 << 11), 0b0001);
}

#[test]
fn the_lowest_priority_goes_to_who_has_least_to_do() {
    let (chips, _) = enabled(3);
    chips.set_cr8(0, 5).unwrap();
    chips.set_cr8(1, 2).unwrap();
    chips.set_cr8(2, 3).unwrap();
    chips.message(0xfeef_f00c, 0x4161);
    assert_eq!([0, 1, 2].map(|n| chips.take_interrupt(n)), [None, Some(0x61), None]);
    // Now it has something to do.
    chips.message(0xfeef_f00c, 0x4161);
    assert_eq!([0, 1, 2].map(|n| chips.take_interrupt(n)), [None, None, Some(0x61)]);
}

#[test]
fn devices_send_messages_to_one_place_only() {
    let (chips, _) = enabled(2);
    chips.message(0xfee0_1000, 0x41);
    chips.message(0x1_fee0_1000, 0x42);
    chips.message(0xfed0_1000, 0x43);
    chips.message(0, 0x44);
    assert_eq!(chips.take_interrupt(1), Some(0x41));
    end(&chips, 1);
    assert!(!chips.pending(0).any() && !chips.pending(1).any());
}

#[test]
fn errors_are_shown_when_they_are_asked_for() {
    let (chips, _) = enabled(1);
    write(&chips, 0, 0x370, 0x77);
    write(&chips, 0, 0x300, SELF | 5);
    write(&chips, 0, 0x300, SELF | 6);
    assert_eq!(read(&chips, 0, 0x280), 0);
    write(&chips, 0, 0x280, 0);
    assert_eq!(read(&chips, 0, 0x280), 0x20);
    assert_eq!(chips.take_interrupt(0), Some(0x77));
    end(&chips, 0);
    assert!(!chips.pending(0).any(), "two errors of a kind interrupt once");
    chips.message(0xfee0_0000, 3);
    assert_eq!(read(&chips, 0, 0x3f0), 0, "no register");
    write(&chips, 0, 0x280, 0);
    assert_eq!(read(&chips, 0, 0x280), 0xc0);
}

#[test]
fn its_life_goes_one_way_round() {
    let (chips, _) = enabled(1);
    assert!(!set(&chips, 0, 0x1b, 0xfee0_0500), "no x2APIC without an APIC");
    assert!(!set(&chips, 0, 0x1b, 0xfee0_0901), "reserved");
    assert!(!set(&chips, 0, 0x1b, 0x100_fee0_0900), "beyond physical addresses");
    assert!(set(&chips, 0, 0x1b, 0xfee0_0d00));
    assert!(!set(&chips, 0, 0x1b, 0xfee0_0900), "not back from x2APIC");
    assert!(!chips.answers(0, PAGE) && chips.apic_page(0).is_none());
    assert_eq!(get(&chips, 0, 0x80f), Some(0x1ff), "registers stay");
    assert!(set(&chips, 0, 0x1b, 0xfee0_0100));
    assert!(!set(&chips, 0, 0x1b, 0xfee0_0d00));
    assert_eq!(get(&chips, 0, 0x80f), None);
    assert!(set(&chips, 0, 0x1b, 0xc000_0900));
    assert!(chips.answers(0, 0xc000_0000) && !chips.answers(0, PAGE));
    assert_eq!(chips.apic_page(0), Some(0xc000_0000));
}

#[test]
fn an_x2apic_is_msrs() {
    let (chips, _) = enabled(3);
    (0..3).for_each(|vcpu| x2(&chips, vcpu));
    assert_eq!(get(&chips, 2, 0x802), Some(2));
    assert_eq!(get(&chips, 2, 0x80d), Some(4));
    assert!(set(&chips, 0, 0x830, 2 << 32 | 0x4055));
    assert_eq!(get(&chips, 0, 0x830), Some(2 << 32 | 0x4055));
    assert_eq!(chips.take_interrupt(2), Some(0x55));
    assert_eq!(get(&chips, 2, 0x812), Some(1 << 0x15));
    assert!(set(&chips, 2, 0x80b, 0));
    assert!(!set(&chips, 2, 0x80b, 1));
    assert!(set(&chips, 0, 0x830, u64::from(u32::MAX) << 32 | 0x0056));
    assert_eq!([0, 1, 2].map(|n| chips.take_interrupt(n)), [Some(0x56); 3]);
    (0..3).for_each(|vcpu| assert!(set(&chips, vcpu, 0x80b, 0)));
    assert!(set(&chips, 0, 0x830, 0b101 << 32 | 0x0857), "a set of its cluster");
    assert_eq!([0, 1, 2].map(|n| chips.take_interrupt(n)), [Some(0x57), None, Some(0x57)]);
    assert!(set(&chips, 1, 0x83f, 0x58));
    assert_eq!(chips.take_interrupt(1), Some(0x58));
    // What is reserved, read-only, write-only or not there.
    let refused = [0x80a, 0x80d, 0x80e, 0x810, 0x831, 0x82f, 0x839, 0x800, 0x8ff];
    assert!(refused.iter().all(|msr| !set(&chips, 0, *msr, 0)));
    let refused = [0x80b, 0x80e, 0x831, 0x83f, 0x840, 0x8ff];
    assert!(refused.iter().all(|msr| get(&chips, 0, *msr).is_none()));
    assert!(!set(&chips, 0, 0x808, 0x100) && !set(&chips, 0, 0x830, 1 << 20));
    assert!(!set(&chips, 0, 0x838, 1 << 32));
}

#[test]
fn the_timer_counts_once_or_for_ever() {
    let (chips, woken) = enabled(1);
    write(&chips, 0, 0x320, 0x40);
    write(&chips, 0, 0x3e0, 0b1010);
    write_at(&chips, 0, 0x380, 1000, 500);
    assert_eq!(chips.next_deadline(0), Some(500 + 1000 * 128), "it is divided by 128");
    assert_eq!(read_at(&chips, 0, 0x390, 500 + 128 * 250), 750);
    chips.tick(128_499);
    woken.take();
    assert!(!chips.pending(0).any());
    chips.tick(128_500);
    assert_eq!((woken.take(), chips.take_interrupt(0)), (1, Some(0x40)));
    assert_eq!((read_at(&chips, 0, 0x390, 130_000), chips.next_deadline(0)), (0, None));
    end(&chips, 0);
    write(&chips, 0, 0x320, 0x2_0041);
    write(&chips, 0, 0x3e0, 0b1011);
    write_at(&chips, 0, 0x380, 1000, 200_000);
    chips.tick(203_500);
    assert_eq!(chips.take_interrupt(0), Some(0x41));
    end(&chips, 0);
    assert!(!chips.pending(0).any(), "periods that nobody saw are one");
    assert_eq!(chips.next_deadline(0), Some(204_000));
    write(&chips, 0, 0x380, 0);
    assert_eq!(chips.next_deadline(0), None);
}

#[test]
fn a_masked_timer_counts_and_is_silent() {
    let (chips, _) = enabled(1);
    write(&chips, 0, 0x320, 0x3_0040);
    write_at(&chips, 0, 0x380, 1000, 0);
    chips.tick(5000);
    assert!(!chips.pending(0).any());
    assert_eq!(read_at(&chips, 0, 0x390, 5500), 250);
    write_at(&chips, 0, 0x3e0, 0, 5500);
    assert_eq!(read_at(&chips, 0, 0x390, 5500), 250, "another divider, the same count");
}

#[test]
fn a_deadline_is_a_value_of_the_time_stamp_counter() {
    let (chips, woken) = enabled(1);
    assert!(set(&chips, 0, 0x6e0, 99));
    assert_eq!(get(&chips, 0, 0x6e0), Some(0), "nothing in the other modes");
    write(&chips, 0, 0x320, 0x4_0050);
    write(&chips, 0, 0x380, 77);
    assert_eq!(read(&chips, 0, 0x380), 0, "no count in this one");
    chips.write_msr(0, 0x6e0, 30_001, moment(10_000)).unwrap();
    assert_eq!(chips.next_deadline(0), Some(15_001), "not before it");
    // The counter is set back by 10,000 ticks, 5 microseconds.
    chips.tsc_moved(0, Moment { nanoseconds: 10_000, tsc: 10_001 });
    assert_eq!(chips.next_deadline(0), Some(20_000));
    woken.take();
    chips.tick(20_000);
    assert_eq!((woken.take(), chips.take_interrupt(0)), (1, Some(0x50)));
    assert_eq!((get(&chips, 0, 0x6e0), chips.next_deadline(0)), (Some(0), None));
    chips.write_msr(0, 0x6e0, 1, moment(30_000)).unwrap();
    assert_eq!(chips.next_deadline(0), Some(30_000), "what is over is due");
    assert!(set(&chips, 0, 0x6e0, 0));
    assert_eq!(chips.next_deadline(0), None);
    chips.write_msr(0, 0x6e0, u64::MAX, moment(30_000)).unwrap();
    write(&chips, 0, 0x320, 0x50);
    assert_eq!((get(&chips, 0, 0x6e0), chips.next_deadline(0)), (Some(0), None));
}

#[test]
fn odd_accesses_to_the_page_are_nothing() {
    let (chips, _) = enabled(1);
    assert!(chips.memory_write(0, PAGE + 0x80, &[0x20], || 0));
    assert!(chips.memory_write(0, PAGE + 0x84, &[0x20, 0, 0, 0], || 0));
    assert!(chips.memory_write(0, PAGE + 0x80, &[0x20; 8], || 0));
    assert_eq!(read(&chips, 0, 0x80), 0);
    let mut byte = [9];
    assert!(chips.memory_read(0, PAGE + 0x32, &mut byte, || 0));
    assert_eq!(byte, [5], "a byte of the version");
    let mut long = [9; 8];
    assert!(chips.memory_read(0, PAGE + 0x30, &mut long, || 0));
    assert_eq!(long, [0; 8]);
}
