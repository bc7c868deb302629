//! The PICs.

use super::*;

/// A machine whose first processor's LINT0 asks the PICs, as after power-up.
fn started() -> Chips {
    let (chips, _) = chips(2);
    start_pics(&chips);
    chips
}

fn pulse(chips: &Chips, line: u32) {
    chips.line(line, true);
    chips.line(line, false);
}

#[test]
fn the_first_processor_takes_their_interrupts_from_power_up_on() {
    let (chips, woken) = chips(2);
    start_pics(&chips);
    pulse(&chips, 4);
    assert_eq!(woken.take(), 1);
    assert!(chips.pending(0).interrupt && !chips.pending(1).any());
    assert_eq!(chips.take_interrupt(0), Some(0x34));
    assert!(!chips.pending(0).any());
    // As long as it is in service, only lines before it interrupt.
    pulse(&chips, 5);
    assert!(!chips.pending(0).any());
    pulse(&chips, 1);
    assert_eq!(chips.take_interrupt(0), Some(0x31));
    out(&chips, 0x20, 0x20);
    out(&chips, 0x20, 0x20);
    assert_eq!(chips.take_interrupt(0), Some(0x35));
}

#[test]
fn nobody_asks_them_when_lint0_is_masked() {
    let chips = started();
    write(&chips, 0, 0x350, 0x1_0700);
    pulse(&chips, 4);
    assert!(!chips.pending(0).any());
    write(&chips, 0, 0xf0, 0x1ff);
    write(&chips, 0, 0x350, 0x700);
    assert_eq!(chips.take_interrupt(0), Some(0x34));
    // Without a local APIC their line is the processor's own.
    chips.write_msr(0, 0x1b, 0xfee0_0100, moment(0)).unwrap();
    out(&chips, 0x20, 0x20);
    pulse(&chips, 4);
    assert_eq!(chips.take_interrupt(0), Some(0x34));
}

#[test]
fn the_second_hangs_at_the_first() {
    let chips = started();
    pulse(&chips, 12);
    pulse(&chips, 9);
    assert_eq!(chips.take_interrupt(0), Some(0x39));
    assert!(!chips.pending(0).any());
    out(&chips, 0x20, 0x0b);
    out(&chips, 0xa0, 0x0b);
    assert_eq!((input(&chips, 0x20), input(&chips, 0xa0)), (4, 2), "in service");
    out(&chips, 0xa0, 0x20);
    assert!(!chips.pending(0).any(), "the first has not ended it");
    out(&chips, 0x20, 0x20);
    assert_eq!(chips.take_interrupt(0), Some(0x3c));
    out(&chips, 0xa0, 0x64);
    out(&chips, 0x20, 0x62);
    assert!(!chips.pending(0).any());
}

#[test]
fn what_is_masked_waits() {
    let chips = started();
    out(&chips, 0x21, 0xff);
    pulse(&chips, 3);
    assert!(!chips.pending(0).any());
    out(&chips, 0x20, 0x0a);
    assert_eq!((input(&chips, 0x20), input(&chips, 0x21)), (8, 0xff));
    out(&chips, 0x21, 0xf7);
    assert_eq!(chips.take_interrupt(0), Some(0x33));
}

#[test]
fn a_level_that_went_away_interrupts_nobody() {
    let chips = started();
    out(&chips, 0x4d1, 0x02);
    assert_eq!((input(&chips, 0x4d0), input(&chips, 0x4d1)), (0, 2));
    chips.line(9, true);
    assert!(chips.pending(0).interrupt);
    chips.line(9, false);
    assert!(!chips.pending(0).any());
    assert_eq!(chips.take_interrupt(0), None, "the local APIC has nothing either");
    chips.line(9, true);
    assert_eq!(chips.take_interrupt(0), Some(0x39));
    out(&chips, 0xa0, 0x20);
    out(&chips, 0x20, 0x20);
    assert_eq!(chips.take_interrupt(0), Some(0x39), "a level comes again");
}

#[test]
fn priorities_rotate() {
    let chips = started();
    pulse(&chips, 0);
    pulse(&chips, 1);
    assert_eq!(chips.take_interrupt(0), Some(0x30));
    out(&chips, 0x20, 0xa0);
    pulse(&chips, 0);
    assert_eq!(chips.take_interrupt(0), Some(0x31), "line 0 comes last");
    out(&chips, 0x20, 0x20);
    assert_eq!(chips.take_interrupt(0), Some(0x30));
    out(&chips, 0x20, 0x60);
    out(&chips, 0x20, 0xc4);
    pulse(&chips, 4);
    pulse(&chips, 5);
    assert_eq!(chips.take_interrupt(0), Some(0x35), "line 4 was made the last");
}

#[test]
fn modes_of_the_data_sheet() {
    let chips = started();
    // Automatic end, with rotation.
    out(&chips, 0x20, 0x11);
    [0x30, 4, 3, 0].into_iter().for_each(|value| out(&chips, 0x21, value));
    pulse(&chips, 6);
    assert_eq!(chips.take_interrupt(0), Some(0x36));
    pulse(&chips, 7);
    assert_eq!(chips.take_interrupt(0), Some(0x37), "nothing is in service");
    // Special mask: what is masked does not hold back what comes after it.
    start_pics(&chips);
    pulse(&chips, 1);
    assert_eq!(chips.take_interrupt(0), Some(0x31));
    pulse(&chips, 6);
    assert!(!chips.pending(0).any());
    out(&chips, 0x20, 0x68);
    out(&chips, 0x21, 0x02);
    assert_eq!(chips.take_interrupt(0), Some(0x36));
    // Polling acknowledges.
    start_pics(&chips);
    pulse(&chips, 5);
    out(&chips, 0x20, 0x0c);
    assert_eq!((input(&chips, 0x20), input(&chips, 0x20)), (0x85, 0));
    out(&chips, 0x20, 0x0c);
    assert_eq!(input(&chips, 0x20), 0);
}

#[test]
fn special_fully_nested_mode_lets_the_second_interrupt_itself() {
    let chips = started();
    out(&chips, 0x20, 0x11);
    [0x30, 4, 0x11, 0].into_iter().for_each(|value| out(&chips, 0x21, value));
    pulse(&chips, 14);
    assert_eq!(chips.take_interrupt(0), Some(0x3e));
    pulse(&chips, 8);
    assert_eq!(chips.take_interrupt(0), Some(0x38));
}
