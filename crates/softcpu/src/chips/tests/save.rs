//! What is saved and restored.

use super::*;

#[test]
fn a_local_apic_goes_on_elsewhere() {
    let (one, _) = enabled(2);
    write(&one, 0, 0x3e0, 0b1011);
    write(&one, 0, 0x320, 0x2_0040);
    write_at(&one, 0, 0x380, 1000, 0);
    write(&one, 0, 0x80, 0x20);
    for vector in [0x20, 0x50, 0x61] {
        write(&one, 0, 0x300, 1 << 18 | vector);
    }
    assert_eq!(one.take_interrupt(0), Some(0x61));
    let page = one.apic(0, 2300);
    assert_eq!(page.len(), 1024);
    let (other, woken) = chips(2);
    let base = one.read_msr(0, 0x1b, moment(0)).unwrap();
    other.set_apic(0, &page, base, 7_000_000).unwrap();
    assert_eq!(other.next_deadline(0), Some(7_000_700));
    assert_eq!(other.apic(0, 7_000_000), page);
    assert!(!other.pending(0).interrupt);
    woken.take();
    end(&other, 0);
    assert_eq!(woken.take(), 1);
    assert_eq!(other.take_interrupt(0), Some(0x50));
    end(&other, 0);
    other.set_cr8(0, 0).unwrap();
    assert_eq!(other.take_interrupt(0), Some(0x40), "two periods were over");
    end(&other, 0);
    assert_eq!(other.take_interrupt(0), Some(0x20));
}

#[test]
fn an_x2apic_is_saved_as_a_page() {
    let (one, _) = enabled(2);
    one.write_msr(1, 0x1b, 0xfee0_0c00, moment(0)).unwrap();
    one.write_msr(1, 0x832, 0x4_0050, moment(0)).unwrap();
    one.write_msr(1, 0x6e0, 5000, moment(0)).unwrap();
    let page = one.apic(1, 100);
    assert_eq!(page[0x20..0x24], [0, 0, 0, 1], "the ID is where KVM has it");
    assert_eq!(page[0xd0..0xd4], [2, 0, 0, 0]);
    let (other, _) = chips(2);
    other.set_apic(1, &page, 0xfee0_0c00, 100).unwrap();
    other.write_msr(1, 0x6e0, 5000, moment(100)).unwrap();
    assert_eq!(other.next_deadline(1), Some(2500));
    assert_eq!(other.apic(1, 100), page);
}

#[test]
fn what_no_local_apic_can_have_is_refused_and_changes_nothing() {
    let (chips, _) = enabled(1);
    let page = chips.apic(0, 0);
    let refused = [
        (&page[..], 0xfee0_0401, "a reserved bit"),
        (&page[..], 0xfee0_0400, "an x2APIC that is off"),
        (&page[1..], 0xfee0_0900, "a short page"),
        (&[], 1 << 60, "a base beyond memory"),
    ];
    for (page, base, why) in refused {
        assert!(chips.set_apic(0, page, base, 0).is_err(), "{why}");
    }
    assert!(chips.set_apic(1, &page, 0xfee0_0900, 0).is_err(), "no such processor");
    assert_eq!(chips.apic(0, 0), page);
    chips.set_apic(0, &[], 0xfee0_0900, 0).unwrap();
    assert_eq!(read(&chips, 0, 0xf0), 0xff);
}

#[test]
fn errors_that_nobody_asked_for_are_kept() {
    let (one, _) = enabled(1);
    write(&one, 0, 0x300, 1 << 18 | 3);
    let (other, _) = chips(1);
    other.set_apic(0, &one.apic(0, 0), 0xfee0_0900, 0).unwrap();
    write(&other, 0, 0x280, 0);
    assert_eq!(read(&other, 0, 0x280), 0x20);
}

#[test]
fn the_shared_chips_go_on_elsewhere() {
    let (one, _) = enabled(1);
    start_pics(&one);
    entry(&one, 2, 0x91, 0);
    entry(&one, 11, 0x9a | 1 << 15, 0);
    one.line(11, true);
    out(&one, 0x43, 0x34);
    out(&one, 0x40, 100);
    out(&one, 0x40, 0);
    out(&one, 0x61, 3);
    let deadline = one.next_deadline(0).unwrap();
    let state = one.state(50);
    let (other, _) = chips(1);
    other.set_state(&state, 50);
    other.set_apic(0, &one.apic(0, 50), 0xfee0_0900, 50).unwrap();
    assert_eq!(other.state(50), state);
    assert_eq!(other.next_deadline(0), Some(deadline));
    assert_eq!(input(&other, 0x61) & 3, 3);
    assert_eq!(other.take_interrupt(0), Some(0x3b), "line 11 is at the PICs too");
}

#[test]
fn nonsense_from_a_snapshot_does_no_harm() {
    let (chips, _) = enabled(1);
    let mut state = chips.state(0);
    state.ioapic.entries = [u64::MAX; 24];
    state.ioapic.lines = u32::MAX;
    state.ioapic.select = 0xff;
    for pit in &mut state.pit {
        pit.count = u32::MAX;
        pit.mode = 0xff;
        pit.access = 77;
        pit.read_next = 9;
        pit.loaded_at = 1;
        pit.bcd = true;
    }
    for pic in &mut state.pics {
        pic.priority_add = 0xff;
        pic.init = 0xff;
        pic.irr = 0xff;
    }
    chips.set_state(&state, 0);
    for port in [0x20, 0x21, 0x40, 0x41, 0x42, 0x61, 0xa0, 0xa1] {
        input(&chips, port);
    }
    chips.tick(u64::MAX);
    (0..24).for_each(|line| chips.line(line, true));
    chips.take_interrupt(0);
}
