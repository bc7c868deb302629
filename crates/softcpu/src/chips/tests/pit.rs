//! The PIT.

use super::*;

/// Nanoseconds after which so many ticks are over.
fn after(ticks: u64) -> u64 {
    (ticks * 1_000_000_000).div_ceil(1_193_182)
}

fn out_at(chips: &Chips, port: u16, value: u8, now: u64) {
    assert!(chips.port_write(port, value, || now));
}

fn in_at(chips: &Chips, port: u16, now: u64) -> u8 {
    chips.port_read(port, || now).unwrap()
}

fn load(chips: &Chips, port: u16, count: u16, now: u64) {
    count.to_le_bytes().into_iter().for_each(|byte| out_at(chips, port, byte, now));
}

fn count(chips: &Chips, port: u16, now: u64) -> u16 {
    let low = in_at(chips, port, now);
    u16::from_le_bytes([low, in_at(chips, port, now)])
}

#[test]
fn the_first_counter_ticks_on_line_0() {
    let (chips, woken) = enabled(1);
    entry(&chips, 2, 0x91, 0);
    assert_eq!(chips.next_deadline(0), None);
    out_at(&chips, 0x43, 0x34, 0);
    load(&chips, 0x40, 1193, 1000);
    let mut at = 1000;
    for tick in 1..=3 {
        let next = chips.next_deadline(0).unwrap();
        assert_eq!(next, 1000 + after(1193 * tick));
        chips.tick(next - 1);
        assert!(!chips.pending(0).any());
        woken.take();
        chips.tick(next);
        assert_eq!((woken.take(), chips.take_interrupt(0)), (1, Some(0x91)));
        end(&chips, 0);
        at = next;
    }
    chips.tick(at + 10 * after(1193));
    assert_eq!(chips.take_interrupt(0), Some(0x91));
    end(&chips, 0);
    assert!(!chips.pending(0).any(), "what nobody saw is one");
    out_at(&chips, 0x43, 0x30, 0);
    assert_eq!(chips.next_deadline(0), None, "a new mode waits for its count");
}

#[test]
fn it_ticks_at_the_pics_too() {
    let (chips, _) = chips(1);
    start_pics(&chips);
    out(&chips, 0x43, 0x36);
    load(&chips, 0x40, 0, 0);
    assert_eq!(chips.next_deadline(0), Some(after(0x10000)));
    chips.tick(after(0x10000));
    assert_eq!(chips.take_interrupt(0), Some(0x30));
}

/// What kernels do to measure their clocks (arch/x86/kernel/tsc.c, pit_hpet_ptimer_calibrate_cpu).
#[test]
fn the_third_counter_measures_through_port_0x61() {
    let (chips, _) = chips(1);
    out(&chips, 0x61, input(&chips, 0x61) & !2 | 1);
    out(&chips, 0x43, 0xb0);
    load(&chips, 0x42, 59_659, 0);
    assert_eq!(in_at(&chips, 0x61, after(59_658)) & 0x20, 0);
    assert_eq!(in_at(&chips, 0x61, after(59_659)) & 0x21, 0x21);
    assert_eq!(count(&chips, 0x42, after(59_660)), 0xffff, "it counts on");
    // The quick way: only the upper bytes are looked at.
    load(&chips, 0x42, 0xffff, 0);
    assert_eq!(count(&chips, 0x42, after(0x1ff)) >> 8, 0xfe);
    assert_eq!((in_at(&chips, 0x61, 0) ^ in_at(&chips, 0x61, 15_085)) & 0x10, 0x10);
}

#[test]
fn the_gate_holds_and_starts_the_third_counter() {
    let (chips, _) = chips(1);
    out(&chips, 0x43, 0xb0);
    load(&chips, 0x42, 1000, 0);
    assert_eq!(count(&chips, 0x42, after(500)), 1000, "the gate is low");
    out_at(&chips, 0x61, 1, after(500));
    out_at(&chips, 0x61, 0, after(700));
    assert!((799..=801).contains(&count(&chips, 0x42, after(900))));
    out_at(&chips, 0x61, 1, after(900));
    assert_eq!(in_at(&chips, 0x61, after(1695)) & 0x20, 0);
    assert_eq!(in_at(&chips, 0x61, after(1705)) & 0x20, 0x20);
    // One shot: the gate's rise begins it, and begins it anew.
    out(&chips, 0x43, 0xb2);
    out(&chips, 0x61, 0);
    load(&chips, 0x42, 1000, 0);
    assert_eq!(in_at(&chips, 0x61, after(5000)) & 0x20, 0x20);
    out_at(&chips, 0x61, 1, after(5000));
    assert_eq!(in_at(&chips, 0x61, after(5990)) & 0x20, 0);
    out_at(&chips, 0x61, 0, after(5990));
    out_at(&chips, 0x61, 1, after(5995));
    assert_eq!(in_at(&chips, 0x61, after(6100)) & 0x20, 0);
    assert_eq!(in_at(&chips, 0x61, after(7000)) & 0x20, 0x20);
}

#[test]
fn waves_and_strobes_are_as_the_data_sheet_draws_them() {
    let (chips, _) = chips(1);
    out(&chips, 0x61, 1);
    let drawn = |control: u8, n: u16| {
        out(&chips, 0x43, control);
        load(&chips, 0x42, n, 0);
        let level = |tick| in_at(&chips, 0x61, after(tick)) & 0x20 != 0;
        (0..10).map(|tick| if level(tick) { 'H' } else { '_' }).collect::<String>()
    };
    assert_eq!(drawn(0xb0, 4), "____HHHHHH");
    assert_eq!(drawn(0xb4, 3), "HH_HH_HH_H");
    assert_eq!(drawn(0xb6, 4), "HH__HH__HH");
    assert_eq!(drawn(0xb6, 5), "HHH__HHH__");
    assert_eq!(drawn(0xb8, 4), "HHHH_HHHHH");
}

#[test]
fn counts_are_latched_and_read_back() {
    let (chips, _) = chips(1);
    out(&chips, 0x43, 0x34);
    assert_eq!(input(&chips, 0x43), 0);
    out(&chips, 0x43, 0xe2);
    assert_eq!(input(&chips, 0x40), 0xf4, "high, no count yet, both bytes, mode 2");
    load(&chips, 0x40, 0x1000, 0);
    out_at(&chips, 0x43, 0x00, after(0x100));
    out_at(&chips, 0x43, 0x00, after(0x200));
    assert_eq!(count(&chips, 0x40, after(0x300)), 0xf00, "the first latch counts");
    assert_eq!(count(&chips, 0x40, after(0x300)), 0xd00);
    out_at(&chips, 0x43, 0xc2, after(0x400));
    assert_eq!(in_at(&chips, 0x40, after(0x500)), 0xb4);
    assert_eq!(count(&chips, 0x40, after(0x500)), 0xc00);
    // One byte only.
    out(&chips, 0x43, 0x14);
    out(&chips, 0x40, 200);
    assert_eq!((in_at(&chips, 0x40, after(50)), in_at(&chips, 0x40, after(60))), (150, 140));
    out(&chips, 0x43, 0x24);
    out(&chips, 0x40, 2);
    assert_eq!(in_at(&chips, 0x40, after(0x80)), 1);
}

#[test]
fn it_counts_in_decimal() {
    let (chips, _) = chips(1);
    out(&chips, 0x43, 0x35);
    load(&chips, 0x40, 0x1234, 0);
    assert_eq!(chips.next_deadline(0), Some(after(1234)));
    assert_eq!(count(&chips, 0x40, after(200)), 0x1034);
    load(&chips, 0x40, 0, 0);
    assert_eq!(chips.next_deadline(0), Some(after(10_000)));
    assert_eq!(count(&chips, 0x40, 0), 0);
}
