//! Model-specific registers, the time stamp counter, and the clock that guests read.
//!
//! Source: Intel SDM volume 4; Linux `Documentation/virt/kvm/x86/msr.rst` for the clock.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use crate::{
    chips::{Chips, Moment},
    control::{EFER, LMA, LME},
    cpu::{Cpu, FS, GS},
    fault::Did,
    machine::{host_now, host_time},
    mmu::canonical,
    word::Word,
};

pub(crate) const TSC: u32 = 0x10;
pub(crate) const APIC_BASE: u32 = 0x1b;
pub(crate) const SYSENTER_CS: u32 = 0x174;
pub(crate) const SYSENTER_ESP: u32 = 0x175;
pub(crate) const SYSENTER_EIP: u32 = 0x176;
pub(crate) const TSC_DEADLINE: u32 = 0x6e0;
pub(crate) const EFER_MSR: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;
const PAT: u32 = 0x277;
const MTRR_DEFAULT: u32 = 0x2ff;

/// The clock's registers, and the older pair.
const WALL_CLOCK: u32 = 0x4b56_4d00;
const SYSTEM_TIME: u32 = 0x4b56_4d01;
const WALL_CLOCK_OLD: u32 = 0x11;
const SYSTEM_TIME_OLD: u32 = 0x12;

/// Registers that hold what was written and mean nothing here, with their first values: where
/// updates of microcode stand, machine checks of no banks, performance, memory types.
const KEPT: &[(u32, u64)] = &[
    (0x8b, 0),
    (SYSENTER_CS, 0),
    (SYSENTER_ESP, 0),
    (SYSENTER_EIP, 0),
    (0x17a, 0),
    (0x1a0, 1),
    (0x1d9, 0),
    (PAT, 0x0007_0406_0007_0406),
    (MTRR_DEFAULT, 0),
];

/// Registers that only say something: the platform, features that are locked, eight ranges of
/// memory types and the fixed ones, no banks of machine checks.
const CONSTANT: &[(u32, u64)] = &[(0x17, 0), (0x3a, 1), (0xfe, 0x508), (0x179, 0)];

/// The fixed ranges of memory types, and the eight variable ones.
fn is_mtrr(msr: u32) -> bool {
    matches!(msr, 0x200..=0x20f | 0x250 | 0x258 | 0x259 | 0x268..=0x26f)
}

/// Values.
#[derive(Clone, Debug)]
pub(crate) struct Msrs {
    pub(crate) star: u64,
    pub(crate) lstar: u64,
    pub(crate) cstar: u64,
    pub(crate) sfmask: u64,
    pub(crate) kernel_gs_base: u64,
    pub(crate) tsc_aux: u64,
    /// What the time stamp counter is ahead of the host's clock, wrapping.
    pub(crate) tsc_offset: u64,
    wall_clock: u64,
    system_time: u64,
    /// What [`Machine::clock_set`](crate::machine::Machine::clock_set) was when the guest's page
    /// was last written; none, if it has to be.
    clock_page: Option<u64>,
    /// Versions that the page has had.
    clock_version: u32,
    kept: BTreeMap<u32, u64>,
}

impl Msrs {
    pub(crate) fn reset() -> Msrs {
        let mtrrs = (0x200..0x270).filter(|msr| is_mtrr(*msr)).map(|msr| (msr, 0));
        Msrs {
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            kernel_gs_base: 0,
            tsc_aux: 0,
            tsc_offset: host_now().wrapping_neg(),
            wall_clock: 0,
            system_time: 0,
            clock_page: None,
            clock_version: 0,
            kept: KEPT.iter().copied().chain(mtrrs).collect(),
        }
    }

    /// One of those that hold what was written.
    pub(crate) fn kept(&self, msr: u32) -> u64 {
        self.kept.get(&msr).copied().unwrap_or_default()
    }
}

impl Cpu {
    /// The time stamp counter.
    pub(crate) fn tsc(&self) -> u64 {
        host_now().wrapping_add(self.msrs.tsc_offset)
    }

    /// Now, on both clocks.
    pub(crate) fn moment(&self) -> Moment {
        Moment { nanoseconds: self.machine.now(), tsc: self.tsc() }
    }

    /// `rdmsr`; nothing, if there is no such register.
    pub(crate) fn read_msr(&self, msr: u32) -> Option<u64> {
        Some(match msr {
            TSC => self.tsc(),
            EFER_MSR => self.control.efer,
            STAR => self.msrs.star,
            LSTAR => self.msrs.lstar,
            CSTAR => self.msrs.cstar,
            SFMASK => self.msrs.sfmask,
            FS_BASE => self.segments[FS].base,
            GS_BASE => self.segments[GS].base,
            KERNEL_GS_BASE => self.msrs.kernel_gs_base,
            TSC_AUX => self.msrs.tsc_aux,
            WALL_CLOCK | WALL_CLOCK_OLD => self.msrs.wall_clock,
            SYSTEM_TIME | SYSTEM_TIME_OLD => self.msrs.system_time,
            _ if Chips::is_msr(msr) => {
                return self.machine.chips.read_msr(self.index, msr, self.moment()).ok();
            }
            _ => {
                let constant = CONSTANT.iter().find(|(n, _)| *n == msr).map(|(_, value)| *value);
                return self.msrs.kept.get(&msr).copied().or(constant);
            }
        })
    }

    /// `wrmsr`; nothing, if there is no such register or it cannot have the value.
    pub(crate) fn write_msr(&mut self, msr: u32, value: u64) -> Option<()> {
        let address = matches!(
            msr,
            LSTAR | CSTAR | FS_BASE | GS_BASE | KERNEL_GS_BASE | SYSENTER_ESP | SYSENTER_EIP
        );
        if address && !canonical(value) {
            return None;
        }
        match msr {
            TSC => {
                self.msrs.tsc_offset = value.wrapping_sub(host_now());
                self.msrs.clock_page = None;
                self.machine.chips.tsc_moved(self.index, self.moment());
            }
            EFER_MSR => return self.write_efer(value),
            STAR => self.msrs.star = value,
            LSTAR => self.msrs.lstar = value,
            CSTAR => self.msrs.cstar = value,
            SFMASK => self.msrs.sfmask = value & 0xffff_ffff,
            FS_BASE => self.set_base(FS, value),
            GS_BASE => self.set_base(GS, value),
            KERNEL_GS_BASE => self.msrs.kernel_gs_base = value,
            TSC_AUX if value >> 32 == 0 => self.msrs.tsc_aux = value,
            WALL_CLOCK | WALL_CLOCK_OLD => {
                self.msrs.wall_clock = value;
                self.write_wall_clock(value);
            }
            SYSTEM_TIME | SYSTEM_TIME_OLD => {
                self.msrs.system_time = value;
                self.msrs.clock_page = None;
                self.renew_clock();
            }
            PAT => {
                let types = value.to_le_bytes();
                let known = |kind: &u8| matches!(kind, 0 | 1 | 4..=7);
                if !types.iter().all(known) {
                    return None;
                }
                self.msrs.kept.insert(PAT, value);
            }
            _ if Chips::is_msr(msr) => {
                let now = self.moment();
                return self.machine.chips.write_msr(self.index, msr, value, now).ok();
            }
            _ => *self.msrs.kept.get_mut(&msr)? = value,
        }
        Some(())
    }

    /// Sets the base of fs or gs.
    pub(crate) fn set_base(&mut self, segment: usize, base: u64) {
        self.segments[segment].base = base;
        self.regs[crate::cpu::SEGMENTS + segment] = base;
    }

    fn write_efer(&mut self, value: u64) -> Option<()> {
        let active = self.control.efer & LMA;
        let switched = (self.control.efer ^ value) & LME != 0;
        if value & !(EFER | LMA) != 0 || switched && self.control.paging() {
            return None;
        }
        self.control.efer = value & EFER | active;
        self.flush_tlb(false);
        Some(())
    }

    /// When the machine began, for `kvm-clock`: version, seconds, nanoseconds.
    fn write_wall_clock(&mut self, at: u64) {
        let began = host_time().saturating_sub(self.machine.now());
        let seconds = u32::cut(began / 1_000_000_000);
        let rest = u32::cut(began % 1_000_000_000);
        let mut page = [0; 12];
        page[0..4].copy_from_slice(&2u32.to_le_bytes());
        page[4..8].copy_from_slice(&seconds.to_le_bytes());
        page[8..12].copy_from_slice(&rest.to_le_bytes());
        // An address without memory is the guest's own mistake, and nobody reads it there.
        let _nowhere = self.memory.write(at, &page);
    }

    /// Writes the page from which the guest reads its clock, if it is out of date.
    pub(crate) fn renew_clock(&mut self) {
        let set = self.machine.clock_set.load(Ordering::Relaxed);
        if self.msrs.system_time & 1 == 0 || self.msrs.clock_page == Some(set) {
            return;
        }
        self.msrs.clock_page = Some(set);
        let at = self.msrs.system_time & !1;
        let Moment { nanoseconds, tsc } = self.moment();
        // Odd while it changes; readers who see one version before and after have a whole one.
        let version = self.memory.load::<u32>(at).unwrap_or(0).max(self.msrs.clock_version) & !1;
        let version = version.wrapping_add(2);
        self.msrs.clock_version = version;
        let mut page = [0; 32];
        page[0..4].copy_from_slice(&version.wrapping_sub(1).to_le_bytes());
        page[8..16].copy_from_slice(&tsc.to_le_bytes());
        page[16..24].copy_from_slice(&nanoseconds.to_le_bytes());
        // One count is one nanosecond: half of two.
        page[24..28].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        page[28] = 1;
        // The same on all processors.
        page[29] = 1;
        let _nowhere = self.memory.write(at, &page);
        let _nowhere = self.memory.store(at, version);
    }

    /// The registers as a state has them.
    pub(crate) fn msr_list(&self) -> Vec<(u32, u64)> {
        let named = [
            TSC,
            APIC_BASE,
            TSC_DEADLINE,
            SYSTEM_TIME,
            WALL_CLOCK,
            EFER_MSR,
            STAR,
            LSTAR,
            CSTAR,
            SFMASK,
            KERNEL_GS_BASE,
            TSC_AUX,
        ];
        let named = named.into_iter().filter_map(|msr| Some((msr, self.read_msr(msr)?)));
        let mut all: Vec<_> =
            named.chain(self.msrs.kept.iter().map(|(msr, value)| (*msr, *value))).collect();
        all.sort_unstable();
        all
    }

    /// Sets one of a state's registers; whether it can be. `IA32_APIC_BASE` and the deadline
    /// belong to the local APIC and come later.
    pub(crate) fn restore_msr(&mut self, msr: u32, value: u64) -> bool {
        match msr {
            APIC_BASE | TSC_DEADLINE => true,
            EFER_MSR if value & !(EFER | LMA) == 0 => {
                self.control.efer = value;
                true
            }
            EFER_MSR => false,
            // The memory that comes with the state has what was written there.
            WALL_CLOCK | WALL_CLOCK_OLD => {
                self.msrs.wall_clock = value;
                true
            }
            SYSTEM_TIME | SYSTEM_TIME_OLD => {
                self.msrs.system_time = value;
                self.msrs.clock_page = None;
                true
            }
            FS_BASE | GS_BASE => true,
            _ if CONSTANT.iter().any(|(n, _)| *n == msr) => true,
            _ => self.write_msr(msr, value).is_some(),
        }
    }

    /// `rdmsr` and `wrmsr` with their fault.
    pub(crate) fn rdmsr(&mut self) -> Did<u64> {
        self.privileged()?;
        let msr = u32::cut(self.regs[hv::state::gpr::RCX]);
        self.read_msr(msr).ok_or(()).map_err(|()| self.protection(0))
    }

    pub(crate) fn wrmsr(&mut self) -> Did {
        use hv::state::gpr;
        self.privileged()?;
        let msr = u32::cut(self.regs[gpr::RCX]);
        let value = self.regs[gpr::RDX] << 32 | self.regs[gpr::RAX] & 0xffff_ffff;
        self.write_msr(msr, value).ok_or(()).map_err(|()| self.protection(0))
    }
}
