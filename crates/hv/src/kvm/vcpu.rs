//! A processor in the kernel's hands.
#![allow(unsafe_code, reason = "the kernel reads an area whose length it decides")]

use std::sync::Arc;

use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_msr_entry, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use rustix::io::Errno;

use super::{
    area, exit, host,
    kick::{self, Kicker, Thread},
    msrs::{self, APIC_BASE, EFER, TSC_DEADLINE},
    registers,
    vm::{Shared, io_step},
};
use crate::{CpuState, Exit, HvError, Kick, Model, Vcpu, state::FpuState};

pub(super) struct KvmVcpu {
    fd: VcpuFd,
    model: Model,
    /// Bytes of the page, or pages, that the kernel shares with this thread.
    run_bytes: usize,
    /// Whether floating point comes in an `xsave` area.
    xsave: bool,
    /// Registers of the state that this host has.
    msrs: Vec<u32>,
    kick: Arc<Kicker>,
    /// The thread that can be kicked.
    thread: Option<Thread>,
    /// The step of an access to a port that was given last, and how many it has.
    steps: Option<(u32, u32)>,
    /// The memory and the machine are there as long as it is.
    _shared: Arc<Shared>,
}

impl std::fmt::Debug for KvmVcpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvmVcpu").field("model", &self.model).finish_non_exhaustive()
    }
}

impl KvmVcpu {
    pub(super) fn new(
        fd: VcpuFd,
        model: Model,
        run_bytes: usize,
        xsave: bool,
        shared: Arc<Shared>,
    ) -> Result<KvmVcpu, HvError> {
        let mut all = Vec::new();
        for msr in msrs::candidates() {
            if get_msrs(&fd, &[msr])?.len() == 1 {
                all.push(msr);
            }
        }
        Ok(KvmVcpu {
            fd,
            model,
            run_bytes,
            xsave,
            msrs: all,
            kick: Arc::default(),
            thread: None,
            steps: None,
            _shared: shared,
        })
    }

    /// Has the kernel run the guest until there is something; whether it was a kick.
    fn enter(&mut self) -> Result<bool, HvError> {
        let thread = match self.thread.filter(Thread::is_current) {
            Some(thread) => thread,
            None => kick::prepare_thread().map_err(io_step("let kicks through"))?,
        };
        self.thread = Some(thread);
        loop {
            self.kick.enter(&mut self.fd, thread);
            let ran = self.fd.run().map(|_| ());
            let kicked = self.kick.leave();
            match ran.map_err(|error| Errno::from_raw_os_error(error.errno())) {
                Ok(()) => return Ok(false),
                Err(Errno::INTR) if kicked => {
                    self.kick.done();
                    return Ok(true);
                }
                // Another signal; or a processor that has just been started.
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(io_step("run the guest")(errno.into())),
            }
        }
    }

    /// The next step of an access to a port that is not done.
    fn step(&mut self) -> Option<u32> {
        let (last, all) = self.steps.take()?;
        (last + 1 < all).then(|| {
            self.steps = Some((last + 1, all));
            last + 1
        })
    }

    fn fpu(&self) -> Result<(FpuState, u64), HvError> {
        if !self.xsave {
            let fpu = self.fd.get_fpu().map_err(host("read floating point"))?;
            return Ok((from_kvm_fpu(&fpu), 1));
        }
        let xsave = self.fd.get_xsave().map_err(host("read floating point"))?;
        let xcrs = self.fd.get_xcrs().map_err(host("read xcr0"))?;
        let xcr0 = xcrs.xcrs.iter().take(xcrs.nr_xcrs as usize).find(|xcr| xcr.xcr == 0);
        Ok((area::read(&xsave.region), xcr0.map_or(1, |xcr| xcr.value)))
    }

    fn set_fpu(&self, state: &CpuState) -> Result<(), HvError> {
        if !self.xsave {
            return self.fd.set_fpu(&kvm_fpu(&state.fpu)).map_err(host("set floating point"));
        }
        let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
        xcrs.xcrs[0].value = state.xcr0;
        self.fd.set_xcrs(&xcrs).map_err(host("set xcr0"))?;
        let region = area::write(&state.fpu, self.model >= Model::V3);
        let xsave = kvm_xsave { region, ..Default::default() };
        // SAFETY: the kernel reads no more than these 4 KiB as long as this process has not asked
        // for larger parts (arch_prctl(2), ARCH_REQ_XCOMP_GUEST_PERM), which nothing here does.
        let set = unsafe { self.fd.set_xsave(&xsave) };
        set.map_err(host("set floating point"))
    }

    fn set_msrs(&self, of: impl Iterator<Item = (u32, u64)>) -> Result<(), HvError> {
        let entries: Vec<_> =
            of.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect();
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let set = self.fd.set_msrs(&list(rest)?).map_err(host("set registers"))?;
            // The kernel stops at one that it does not take: no loss, if that is as after a reset.
            let Some((refused, after)) = rest.get(set..).and_then(<[_]>::split_first) else {
                break;
            };
            if refused.data != 0 && !is_idle(refused) {
                return Err(HvError::Invalid(format!(
                    "this host has no register {:#x} for {:#x}",
                    refused.index, refused.data
                )));
            }
            rest = after;
        }
        Ok(())
    }
}

/// Whether a register that the host lacks holds what it would do without.
fn is_idle(entry: &kvm_msr_entry) -> bool {
    // `IA32_MISC_ENABLE`: fast strings.
    entry.index == 0x1a0 && entry.data == 1
}

fn list(entries: &[kvm_msr_entry]) -> Result<Msrs, HvError> {
    Msrs::from_entries(entries).map_err(|error| HvError::Invalid(format!("registers: {error:?}")))
}

/// The values of registers, up to the first that is not there.
fn get_msrs(fd: &VcpuFd, of: &[u32]) -> Result<Vec<(u32, u64)>, HvError> {
    let entries: Vec<_> =
        of.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
    let mut list = list(&entries)?;
    let read = fd.get_msrs(&mut list).map_err(host("read registers"))?;
    Ok(list.as_slice().iter().take(read).map(|entry| (entry.index, entry.data)).collect())
}

fn from_kvm_fpu(from: &kvm_fpu) -> FpuState {
    FpuState {
        control: from.fcw,
        status: from.fsw,
        tags: from.ftwx,
        opcode: from.last_opcode,
        instruction: from.last_ip,
        operand: from.last_dp,
        st: from.fpr.each_ref().map(|st| std::array::from_fn(|n| st[n])),
        mxcsr: from.mxcsr,
        xmm: from.xmm,
        ymm: [[0; 16]; 16],
    }
}

fn kvm_fpu(from: &FpuState) -> kvm_fpu {
    let st = |st: &[u8; 10]| std::array::from_fn(|n| st.get(n).copied().unwrap_or_default());
    kvm_fpu {
        fpr: from.st.each_ref().map(st),
        fcw: from.control,
        fsw: from.status,
        ftwx: from.tags,
        last_opcode: from.opcode,
        last_ip: from.instruction,
        last_dp: from.operand,
        xmm: from.xmm,
        mxcsr: from.mxcsr,
        ..Default::default()
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HvError> {
        let step = match self.step() {
            Some(step) => step,
            None => {
                if self.enter()? {
                    return Ok(Exit::Kicked);
                }
                let steps = exit::steps(self.fd.get_kvm_run());
                self.steps = Some((0, steps));
                0
            }
        };
        exit::decode(&mut self.fd, self.run_bytes, step)
    }

    fn kick(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.kick) as Arc<dyn Kick>
    }

    fn state(&self) -> Result<CpuState, HvError> {
        // Comes first: it has the processor take what waits at its local APIC.
        let mp = self.fd.get_mp_state().map_err(host("read what a processor does"))?;
        let activity = registers::activity(mp)
            .ok_or_else(|| HvError::Invalid(format!("a processor does {}", mp.mp_state)))?;
        let regs = self.fd.get_regs().map_err(host("read registers"))?;
        let sregs = self.fd.get_sregs().map_err(host("read segments"))?;
        let debug = self.fd.get_debug_regs().map_err(host("read debug registers"))?;
        let events = self.fd.get_vcpu_events().map_err(host("read events"))?;
        let lapic = self.fd.get_lapic().map_err(host("read a local APIC"))?;
        let (fpu, xcr0) = self.fpu()?;
        let mut msrs = get_msrs(&self.fd, &self.msrs)?;
        msrs.extend([(APIC_BASE, sregs.apic_base), (EFER, sregs.efer)]);
        msrs.sort_unstable();
        Ok(CpuState {
            gpr: registers::gpr(&regs),
            rip: regs.rip,
            rflags: regs.rflags,
            segments: registers::segments(&sregs),
            tr: registers::segment(&sregs.tr),
            ldt: registers::segment(&sregs.ldt),
            gdt: registers::table(&sregs.gdt),
            idt: registers::table(&sregs.idt),
            cr0: sregs.cr0,
            cr2: sregs.cr2,
            cr3: sregs.cr3,
            cr4: sregs.cr4,
            cr8: sregs.cr8,
            xcr0,
            debug: registers::debug(&debug),
            msrs,
            fpu,
            apic: lapic.regs.iter().map(|byte| byte.to_le_bytes()[0]).collect(),
            activity,
            events: registers::events(&events),
        })
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), HvError> {
        let value = |msr| state.msrs.iter().find(|(n, _)| *n == msr).map(|(_, value)| *value);
        let now = self.fd.get_sregs().map_err(host("read segments"))?;
        let efer = value(EFER).unwrap_or(now.efer);
        let sregs = registers::sregs(state, efer, value(APIC_BASE).unwrap_or(now.apic_base));
        self.steps = None;
        self.fd.set_sregs(&sregs).map_err(host("set segments"))?;
        self.fd.set_regs(&registers::regs(state)).map_err(host("set registers"))?;
        self.set_fpu(state)?;
        let apart = [EFER, APIC_BASE, TSC_DEADLINE];
        self.set_msrs(state.msrs.iter().copied().filter(|(msr, _)| !apart.contains(msr)))?;
        if !state.apic.is_empty() {
            self.fd.set_lapic(&lapic(&state.apic)?).map_err(host("set a local APIC"))?;
        }
        self.set_msrs(value(TSC_DEADLINE).map(|at| (TSC_DEADLINE, at)).into_iter())?;
        let debug: kvm_debugregs = registers::kvm_debug(&state.debug);
        self.fd.set_debug_regs(&debug).map_err(host("set debug registers"))?;
        let events = registers::kvm_events(&state.events);
        self.fd.set_vcpu_events(&events).map_err(host("set events"))?;
        let mp = registers::mp_state(state.activity);
        self.fd.set_mp_state(mp).map_err(host("set what a processor does"))
    }
}

fn lapic(page: &[u8]) -> Result<kvm_lapic_state, HvError> {
    let mut lapic = kvm_lapic_state::default();
    if page.len() != lapic.regs.len() {
        return Err(HvError::Invalid(format!("a local APIC of {} bytes", page.len())));
    }
    for (to, from) in lapic.regs.iter_mut().zip(page) {
        *to = i8::from_le_bytes([*from]);
    }
    Ok(lapic)
}
