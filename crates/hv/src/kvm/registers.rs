//! Registers from and to KVM's words.
//!
//! Source: KVM API, `KVM_GET_REGS`, `KVM_GET_SREGS`, `KVM_GET_VCPU_EVENTS`, `KVM_GET_DEBUGREGS`.

use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_UNINITIALIZED, KVM_VCPUEVENT_VALID_NMI_PENDING, KVM_VCPUEVENT_VALID_SHADOW,
    kvm_debugregs, kvm_dtable, kvm_mp_state, kvm_regs, kvm_segment, kvm_sregs, kvm_vcpu_events,
};

use crate::state::{Activity, CpuState, Events, Segment, Table};

/// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
pub(super) fn gpr(regs: &kvm_regs) -> [u64; 16] {
    [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ]
}

pub(super) fn regs(state: &CpuState) -> kvm_regs {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = state.gpr;
    kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: state.rip,
        rflags: state.rflags,
    }
}

pub(super) fn segment(from: &kvm_segment) -> Segment {
    let bit = |value: u8, at: u32| u32::from(value & 1) << at;
    let access = u32::from(from.type_ & 0xf)
        | bit(from.s, 4)
        | u32::from(from.dpl & 3) << 5
        | bit(from.present, 7)
        | bit(from.avl, 12)
        | bit(from.l, 13)
        | bit(from.db, 14)
        | bit(from.g, 15)
        | bit(from.unusable, 16);
    Segment { selector: from.selector, base: from.base, limit: from.limit, access }
}

pub(super) fn kvm_segment(from: &Segment) -> kvm_segment {
    let bits = |at: u32, mask: u32| (from.access >> at & mask).to_le_bytes()[0];
    kvm_segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        type_: bits(0, 0xf),
        s: bits(4, 1),
        dpl: bits(5, 3),
        present: bits(7, 1),
        avl: bits(12, 1),
        l: bits(13, 1),
        db: bits(14, 1),
        g: bits(15, 1),
        unusable: bits(16, 1),
        padding: 0,
    }
}

/// es, cs, ss, ds, fs, gs.
pub(super) fn segments(sregs: &kvm_sregs) -> [Segment; 6] {
    [&sregs.es, &sregs.cs, &sregs.ss, &sregs.ds, &sregs.fs, &sregs.gs].map(segment)
}

pub(super) fn table(from: &kvm_dtable) -> Table {
    Table { base: from.base, limit: from.limit }
}

fn kvm_table(from: &Table) -> kvm_dtable {
    kvm_dtable { base: from.base, limit: from.limit, ..Default::default() }
}

pub(super) fn sregs(state: &CpuState, efer: u64, apic_base: u64) -> kvm_sregs {
    let [es, cs, ss, ds, fs, gs] = state.segments.each_ref().map(kvm_segment);
    kvm_sregs {
        cs,
        ds,
        es,
        fs,
        gs,
        ss,
        tr: kvm_segment(&state.tr),
        ldt: kvm_segment(&state.ldt),
        gdt: kvm_table(&state.gdt),
        idt: kvm_table(&state.idt),
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        cr8: state.cr8,
        efer,
        apic_base,
        interrupt_bitmap: [0; 4],
    }
}

pub(super) fn debug(from: &kvm_debugregs) -> [u64; 6] {
    let [a, b, c, d] = from.db;
    [a, b, c, d, from.dr6, from.dr7]
}

pub(super) fn kvm_debug(from: &[u64; 6]) -> kvm_debugregs {
    let [a, b, c, d, dr6, dr7] = *from;
    kvm_debugregs { db: [a, b, c, d], dr6, dr7, ..Default::default() }
}

pub(super) fn events(from: &kvm_vcpu_events) -> Events {
    let exception = &from.exception;
    let code = (exception.has_error_code != 0).then_some(exception.error_code);
    let waits = exception.injected != 0 || exception.pending != 0;
    Events {
        exception: waits.then_some((exception.nr, code)),
        interrupt: (from.interrupt.injected != 0).then_some(from.interrupt.nr),
        nmi_pending: from.nmi.injected != 0 || from.nmi.pending != 0,
        nmi_masked: from.nmi.masked != 0,
        shadow: from.interrupt.shadow != 0,
    }
}

pub(super) fn kvm_events(from: &Events) -> kvm_vcpu_events {
    let mut to = kvm_vcpu_events {
        flags: KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        ..Default::default()
    };
    if let Some((vector, code)) = from.exception {
        to.exception.injected = 1;
        to.exception.nr = vector;
        to.exception.has_error_code = code.is_some().into();
        to.exception.error_code = code.unwrap_or_default();
    }
    if let Some(vector) = from.interrupt {
        to.interrupt.injected = 1;
        to.interrupt.nr = vector;
    }
    to.interrupt.shadow = from.shadow.into();
    to.nmi.pending = from.nmi_pending.into();
    to.nmi.masked = from.nmi_masked.into();
    to
}

/// None for what only other architectures have.
pub(super) fn activity(from: kvm_mp_state) -> Option<Activity> {
    Some(match from.mp_state {
        KVM_MP_STATE_RUNNABLE => Activity::Running,
        KVM_MP_STATE_HALTED => Activity::Halted,
        KVM_MP_STATE_UNINITIALIZED => Activity::WaitForInit,
        KVM_MP_STATE_INIT_RECEIVED => Activity::WaitForStartup,
        _ => return None,
    })
}

pub(super) fn mp_state(from: Activity) -> kvm_mp_state {
    let mp_state = match from {
        Activity::Running => KVM_MP_STATE_RUNNABLE,
        Activity::Halted => KVM_MP_STATE_HALTED,
        Activity::WaitForInit => KVM_MP_STATE_UNINITIALIZED,
        Activity::WaitForStartup => KVM_MP_STATE_INIT_RECEIVED,
    };
    kvm_mp_state { mp_state }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_go_there_and_back() {
        for bit in (0..8).chain(12..17) {
            let segment =
                Segment { selector: 0x1234, base: 1 << 40, limit: 0xfff, access: 1 << bit };
            assert_eq!(super::segment(&kvm_segment(&segment)), segment);
        }
        // A code segment of long mode.
        let code = kvm_segment(&Segment { access: 0xa09b, ..Segment::default() });
        let parts = (code.type_, code.s, code.dpl, code.present, code.l, code.db, code.g);
        assert_eq!(parts, (0xb, 1, 0, 1, 1, 0, 1));
    }

    #[test]
    fn events_go_there_and_back() {
        let all = [
            Events::default(),
            Events { exception: Some((14, Some(6))), ..Events::default() },
            Events { exception: Some((3, None)), interrupt: Some(0x40), ..Events::default() },
            Events { nmi_pending: true, nmi_masked: true, shadow: true, ..Events::default() },
        ];
        for each in all {
            assert_eq!(events(&kvm_events(&each)), each);
        }
    }

    #[test]
    fn what_a_processor_does_goes_there_and_back() {
        let all =
            [Activity::Running, Activity::Halted, Activity::WaitForInit, Activity::WaitForStartup];
        for each in all {
            assert_eq!(activity(mp_state(each)), Some(each));
        }
        assert_eq!(activity(kvm_mp_state { mp_state: 7 }), None);
    }
}
