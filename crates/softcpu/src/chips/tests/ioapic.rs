//! The I/O APIC.

use super::*;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const REMOTE: u32 = 1 << 14;

#[test]
fn its_registers_are_behind_a_window() {
    let (chips, _) = chips(1);
    assert_eq!(get_ioapic(&chips, 1), 0x0017_0011);
    set_ioapic(&chips, 0, 0xff << 24);
    assert_eq!((get_ioapic(&chips, 0), get_ioapic(&chips, 2)), (0xf << 24, 0xf << 24));
    assert_eq!((get_ioapic(&chips, 0x10), get_ioapic(&chips, 0x3e)), (MASKED, MASKED));
    entry(&chips, 23, u32::MAX, 7);
    assert_eq!((get_ioapic(&chips, 0x3e), get_ioapic(&chips, 0x3f)), (0x1_afff, 7 << 24));
    set_ioapic(&chips, 0x40, 1);
    assert_eq!([0x03, 0x40, 0xff].map(|register| get_ioapic(&chips, register)), [u32::MAX; 3]);
}

#[test]
fn an_edge_is_one_message() {
    let (chips, woken) = enabled(2);
    entry(&chips, 5, 0x61, 1);
    chips.line(5, true);
    chips.line(5, true);
    assert_eq!((woken.take(), chips.take_interrupt(1)), (2, Some(0x61)));
    end(&chips, 1);
    assert!(!chips.pending(1).any());
    chips.line(5, false);
    chips.line(5, true);
    assert_eq!(chips.take_interrupt(1), Some(0x61));
    end(&chips, 1);
    // An edge while it is masked is lost.
    chips.line(5, false);
    entry(&chips, 5, 0x61 | MASKED, 1);
    chips.line(5, true);
    entry(&chips, 5, 0x61, 1);
    assert!(!chips.pending(1).any());
}

#[test]
fn a_level_comes_again_until_it_is_lowered() {
    let (chips, woken) = enabled(1);
    entry(&chips, 11, 0x62 | LEVEL, 0);
    chips.line(11, true);
    chips.line(11, true);
    assert_eq!(get_ioapic(&chips, 0x10 + 22), 0x62 | LEVEL | REMOTE);
    for _ in 0..3 {
        woken.take();
        assert_eq!(chips.take_interrupt(0), Some(0x62));
        assert!(!chips.pending(0).any());
        end(&chips, 0);
        assert_eq!(woken.take(), 1);
    }
    assert_eq!(chips.take_interrupt(0), Some(0x62));
    chips.line(11, false);
    end(&chips, 0);
    assert!(!chips.pending(0).any());
    assert_eq!(get_ioapic(&chips, 0x10 + 22), 0x62 | LEVEL);
}

#[test]
fn a_level_that_was_masked_comes_when_it_is_not() {
    let (chips, _) = enabled(1);
    entry(&chips, 11, 0x62 | LEVEL | MASKED, 0);
    chips.line(11, true);
    assert!(!chips.pending(0).any());
    entry(&chips, 11, 0x62 | LEVEL, 0);
    assert_eq!(chips.take_interrupt(0), Some(0x62));
    // Linux ends it with a switch to edge and back, where its own end went astray.
    entry(&chips, 11, 0x62 | MASKED, 0);
    assert_eq!(get_ioapic(&chips, 0x10 + 22), 0x62 | MASKED);
    entry(&chips, 11, 0x62 | LEVEL, 0);
    assert!(get_ioapic(&chips, 0x10 + 22) & REMOTE != 0, "sent anew");
}

#[test]
fn a_level_that_nobody_took_is_not_waited_for() {
    let (chips, _) = enabled(1);
    entry(&chips, 11, 0x62 | LEVEL, 9);
    chips.line(11, true);
    assert_eq!(get_ioapic(&chips, 0x10 + 22) & REMOTE, 0);
    entry(&chips, 11, 0x62 | LEVEL, 0);
    assert_eq!(chips.take_interrupt(0), Some(0x62));
}

#[test]
fn lines_send_all_kinds_of_messages() {
    let (chips, _) = enabled(2);
    entry(&chips, 20, 4 << 8, 1);
    chips.line(20, true);
    assert!(chips.take_nmi(1) && !chips.take_nmi(1));
    (0..2).for_each(|vcpu| write(&chips, vcpu, 0xd0, 1 << (24 + u32::from(vcpu))));
    chips.set_cr8(0, 1).unwrap();
    entry(&chips, 21, 0x70 | 1 << 8 | 1 << 11, 3);
    chips.line(21, true);
    assert_eq!([0, 1].map(|n| chips.take_interrupt(n)), [None, Some(0x70)]);
    chips.line(24, true);
    chips.line(u32::MAX, true);
}

#[test]
fn the_timers_line_is_the_second() {
    let (chips, _) = enabled(1);
    (0..3).for_each(|pin| entry(&chips, pin, 0x80 + u32::from(pin), 0));
    chips.line(0, true);
    chips.line(2, true);
    assert_eq!((chips.take_interrupt(0), chips.take_interrupt(0)), (Some(0x82), None));
}
