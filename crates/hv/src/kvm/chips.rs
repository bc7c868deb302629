//! The kernel's interrupt chips, from and to neutral words.
//!
//! Source: KVM API, `KVM_GET_IRQCHIP`, `KVM_GET_PIT2`; Linux `arch/x86/kvm/i8254.c`.
#![allow(unsafe_code, reason = "unions of chips")]

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KVM_PIT_FLAGS_SPEAKER_DATA_ON, KvmIrqRouting, kvm_ioapic_state, kvm_irq_routing_entry,
    kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip, kvm_irqchip, kvm_pic_state,
    kvm_pit_channel_state, kvm_pit_state2,
};
use kvm_ioctls::VmFd;

use super::host;
use crate::{
    ChipState, HvError,
    state::{IoApicState, PicState, PitChannelState},
};

/// Lines of the I/O APIC; the first 16 are the PICs' too.
pub(super) const LINES: u32 = 24;
const PIC_LINES: u32 = 8;

/// Where the second PIC is at the first, and the timer's line at the I/O APIC.
pub(super) const CASCADE: u32 = 2;

/// Modes and states of a counter in the kernel's words.
const MODE_NONE: u8 = 0xff;
const MODE_SQUARE: u8 = 3;
const FIRST_OF_TWO: u8 = 3;
const SECOND_OF_TWO: u8 = 4;

/// [`PitChannelState::loaded_at`] while nothing counts.
const NEVER: u64 = u64::MAX;

/// Lines to the PICs and the I/O APIC as PCs have them: line 0 is at the I/O APIC's second.
pub(super) fn routes() -> Result<KvmIrqRouting, HvError> {
    let route = |gsi, irqchip, pin| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            irqchip: kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..Default::default()
    };
    let mut routes = Vec::new();
    for line in (0..LINES).filter(|line| *line != CASCADE) {
        match line / PIC_LINES {
            0 => routes.push(route(line, KVM_IRQCHIP_PIC_MASTER, line)),
            1 => routes.push(route(line, KVM_IRQCHIP_PIC_SLAVE, line - PIC_LINES)),
            _ => {}
        }
        let pin = if line == 0 { CASCADE } else { line };
        routes.push(route(line, KVM_IRQCHIP_IOAPIC, pin));
    }
    KvmIrqRouting::from_entries(&routes)
        .map_err(|error| HvError::Invalid(format!("interrupt routes: {error:?}")))
}

/// The two clocks that a counter's beginning is told in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The machine's, in nanoseconds.
    pub(super) machine: u64,
    /// The host's `CLOCK_MONOTONIC`.
    pub(super) host: u64,
}

fn get(vm: &VmFd, chip_id: u32) -> Result<kvm_irqchip, HvError> {
    let mut chip = kvm_irqchip { chip_id, ..Default::default() };
    vm.get_irqchip(&mut chip).map_err(host("read an interrupt chip"))?;
    Ok(chip)
}

pub(super) fn read(vm: &VmFd, now: Now) -> Result<ChipState, HvError> {
    let pic = |id| {
        let chip = get(vm, id)?;
        // SAFETY: the kernel has filled in a PIC, of bytes that may have any value.
        Ok::<_, HvError>(pic_state(unsafe { &chip.chip.pic }))
    };
    let chip = get(vm, KVM_IRQCHIP_IOAPIC)?;
    // SAFETY: the kernel has filled in an I/O APIC, of numbers that may have any value.
    let ioapic = unsafe { &chip.chip.ioapic };
    let pit = vm.get_pit2().map_err(host("read the timer chip"))?;
    let data = pit.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON != 0;
    Ok(ChipState {
        ioapic: ioapic_state(ioapic),
        pics: [pic(KVM_IRQCHIP_PIC_MASTER)?, pic(KVM_IRQCHIP_PIC_SLAVE)?],
        pit: pit.channels.each_ref().map(|channel| channel_state(channel, now)),
        speaker: u8::from(pit.channels[2].gate != 0) | u8::from(data) << 1,
    })
}

/// Masks all lines of the PICs, as firmware leaves them (there is none here): their interrupts
/// reach the first processor from the beginning on.
pub(super) fn mask_pics(vm: &VmFd) -> Result<(), HvError> {
    for id in [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE] {
        let mut chip = get(vm, id)?;
        // SAFETY: as in `read`.
        let pic = unsafe { chip.chip.pic };
        chip.chip.pic = kvm_pic_state { imr: 0xff, ..pic };
        vm.set_irqchip(&chip).map_err(host("mask a PIC"))?;
    }
    Ok(())
}

pub(super) fn write(vm: &VmFd, chips: &ChipState, now: Now) -> Result<(), HvError> {
    for (id, state) in [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE].into_iter().zip(&chips.pics)
    {
        let mut chip = get(vm, id)?;
        // SAFETY: as in `read`.
        let elcr_mask = unsafe { chip.chip.pic }.elcr_mask;
        chip.chip.pic = kvm_pic_state { elcr_mask, ..kvm_pic(state) };
        vm.set_irqchip(&chip).map_err(host("set a PIC"))?;
    }
    let mut chip = get(vm, KVM_IRQCHIP_IOAPIC)?;
    chip.chip.ioapic = kvm_ioapic(&chips.ioapic);
    vm.set_irqchip(&chip).map_err(host("set the I/O APIC"))?;
    let mut pit = kvm_pit_state2 {
        channels: chips.pit.each_ref().map(|channel| kvm_channel(channel, now)),
        ..Default::default()
    };
    pit.channels[2].gate = chips.speaker & 1;
    if chips.speaker & 2 != 0 {
        pit.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
    }
    vm.set_pit2(&pit).map_err(host("set the timer chip"))
}

fn pic_state(from: &kvm_pic_state) -> PicState {
    PicState {
        last_irr: from.last_irr,
        irr: from.irr,
        imr: from.imr,
        isr: from.isr,
        priority_add: from.priority_add,
        irq_base: from.irq_base,
        read_isr: from.read_reg_select != 0,
        poll: from.poll != 0,
        special_mask: from.special_mask != 0,
        init: from.init_state,
        auto_eoi: from.auto_eoi != 0,
        rotate_on_auto_eoi: from.rotate_on_auto_eoi != 0,
        special_fully_nested: from.special_fully_nested_mode != 0,
        init4: from.init4 != 0,
        elcr: from.elcr,
    }
}

fn kvm_pic(from: &PicState) -> kvm_pic_state {
    kvm_pic_state {
        last_irr: from.last_irr,
        irr: from.irr,
        imr: from.imr,
        isr: from.isr,
        priority_add: from.priority_add,
        irq_base: from.irq_base,
        read_reg_select: from.read_isr.into(),
        poll: from.poll.into(),
        special_mask: from.special_mask.into(),
        init_state: from.init,
        auto_eoi: from.auto_eoi.into(),
        rotate_on_auto_eoi: from.rotate_on_auto_eoi.into(),
        special_fully_nested_mode: from.special_fully_nested.into(),
        init4: from.init4.into(),
        elcr: from.elcr,
        elcr_mask: 0,
    }
}

fn ioapic_state(from: &kvm_ioapic_state) -> IoApicState {
    IoApicState {
        id: from.id.to_le_bytes()[0],
        select: from.ioregsel.to_le_bytes()[0],
        lines: from.irr,
        // SAFETY: an entry is 64 bits that may have any value.
        entries: from.redirtbl.each_ref().map(|entry| unsafe { entry.bits }),
    }
}

fn kvm_ioapic(from: &IoApicState) -> kvm_ioapic_state {
    let mut to = kvm_ioapic_state {
        base_address: 0xfec0_0000,
        ioregsel: from.select.into(),
        id: from.id.into(),
        irr: from.lines,
        ..Default::default()
    };
    for (to, from) in to.redirtbl.iter_mut().zip(&from.entries) {
        to.bits = *from;
    }
    to
}

fn channel_state(from: &kvm_pit_channel_state, now: Now) -> PitChannelState {
    let counts = from.mode != MODE_NONE;
    let loaded = u64::try_from(from.count_load_time).unwrap_or(0);
    let ago = now.host.saturating_sub(loaded);
    PitChannelState {
        count: if counts { from.count } else { 0 },
        latched: (from.count_latched != 0)
            .then(|| (from.latched_count, (from.count_latched == SECOND_OF_TWO).into())),
        status: (from.status_latched != 0).then_some(from.status),
        read_next: (from.read_state == SECOND_OF_TWO).into(),
        write_low: (from.write_state == SECOND_OF_TWO).then_some(from.write_latch),
        access: if matches!(from.rw_mode, 1..=3) { from.rw_mode } else { 3 },
        mode: if counts { from.mode } else { MODE_SQUARE },
        bcd: from.bcd != 0,
        gate: from.gate != 0,
        loaded_at: if counts { now.machine.saturating_sub(ago) } else { NEVER },
        stopped_at: None,
    }
}

/// A counter in the kernel's words. The kernel knows no counter that has a mode and waits for its
/// count: that counts from 0x10000 until it is written.
fn kvm_channel(from: &PitChannelState, now: Now) -> kvm_pit_channel_state {
    let part = |second: bool| match from.access {
        1 | 2 => from.access,
        _ if second => SECOND_OF_TWO,
        _ => FIRST_OF_TWO,
    };
    let fresh = from.count == 0 && from.mode == MODE_SQUARE && from.write_low.is_none();
    let ago = now.machine.saturating_sub(from.loaded_at);
    kvm_pit_channel_state {
        count: if from.count == 0 { 0x10000 } else { from.count },
        latched_count: from.latched.map_or(0, |(value, _)| value),
        count_latched: from.latched.map_or(0, |(_, next)| part(next != 0)),
        status_latched: from.status.is_some().into(),
        status: from.status.unwrap_or_default(),
        read_state: part(from.read_next != 0),
        write_state: part(from.write_low.is_some()),
        write_latch: from.write_low.unwrap_or_default(),
        rw_mode: from.access,
        mode: if fresh { MODE_NONE } else { from.mode },
        bcd: from.bcd.into(),
        gate: from.gate.into(),
        count_load_time: i64::try_from(now.host.saturating_sub(ago)).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { machine: 5_000_000, host: 70_000_000_000 };

    #[test]
    fn chips_go_there_and_back() {
        let pic = PicState {
            last_irr: 1,
            irr: 2,
            imr: 3,
            isr: 4,
            priority_add: 5,
            irq_base: 0x38,
            read_isr: true,
            poll: false,
            special_mask: true,
            init: 2,
            auto_eoi: false,
            rotate_on_auto_eoi: true,
            special_fully_nested: false,
            init4: true,
            elcr: 8,
        };
        assert_eq!(pic_state(&kvm_pic(&pic)), pic);
        let entries = std::array::from_fn(|n| n as u64 | 1 << 60);
        let ioapic = IoApicState { id: 2, select: 0x11, lines: 0x1234, entries };
        assert_eq!(ioapic_state(&kvm_ioapic(&ioapic)), ioapic);
    }

    #[test]
    fn counters_go_there_and_back() {
        let counts = PitChannelState {
            count: 1193,
            access: 3,
            mode: 2,
            gate: true,
            loaded_at: 4_000_000,
            ..PitChannelState::default()
        };
        let fresh = PitChannelState { access: 3, mode: 3, loaded_at: NEVER, ..Default::default() };
        let all = [
            PitChannelState { latched: Some((77, 1)), read_next: 1, ..counts },
            PitChannelState { write_low: Some(9), status: Some(0xb4), bcd: true, ..counts },
            PitChannelState { access: 1, latched: Some((5, 0)), ..counts },
            fresh,
        ];
        for each in all {
            assert_eq!(channel_state(&kvm_channel(&each, NOW), NOW), each);
        }
        assert_eq!(kvm_channel(&counts, NOW).count_load_time, 69_999_000_000);
    }

    #[test]
    fn lines_are_where_pcs_have_them() {
        let routes = routes().unwrap();
        let mut lines = vec![Vec::new(); LINES as usize];
        for entry in routes.as_slice() {
            // SAFETY: all of them are routes to a chip.
            let to = unsafe { entry.u.irqchip };
            lines[entry.gsi as usize].push((to.irqchip, to.pin));
        }
        assert_eq!(lines[0], [(0, 0), (2, 2)]);
        assert_eq!((&lines[2][..], &lines[5][..]), (&[][..], &[(0, 5), (2, 5)][..]));
        assert_eq!((&lines[12][..], &lines[23][..]), (&[(1, 4), (2, 12)][..], &[(2, 23)][..]));
    }
}
