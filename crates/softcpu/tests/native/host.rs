//! The host's own processor as referee: one instruction at a time in a child that is traced.
//!
//! The child has a page of code and two pages of data at fixed addresses with nothing around them.
//! The parent shares both by a memfd, so a case costs six calls of the kernel and no copying: set
//! the registers, step, wait, read them back. Used as `#[path = "native/host.rs"] mod host;`.
#![allow(unsafe_code, reason = "fork, ptrace and shared memory")]
#![allow(dead_code, reason = "each test uses its part")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "bits are taken apart"
)]

use std::{io, mem, ptr, slice};

use hv::state::FpuState;

/// Where the code page lies.
pub(crate) const CODE: u64 = 0x1000_0000;

/// Where the data pages lie, and their length; the pages before and behind are not mapped.
pub(crate) const DATA: u64 = 0x2000_0000;
/// See [`DATA`].
pub(crate) const DATA_LEN: usize = 0x2000;

const PAGE: usize = 0x1000;

/// Longest repetition of one instruction (`rep movsb` traps after each round).
const STEPS_MAX: usize = 100_000;

/// What one case begins and ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub(crate) gpr: [u64; 16],
    /// rflags.
    pub(crate) flags: u64,
    /// Bases of fs and gs.
    pub(crate) bases: [u64; 2],
    /// Floating-point registers; `None` neither sets nor reads them.
    pub(crate) fpu: Option<FpuState>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The instruction came to its end.
    Done,
    /// A signal: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP with its `si_code` and `si_addr`.
    Signal {
        /// Which.
        number: i32,
        /// Why.
        code: i32,
        /// Where; of a fault that is not of paging, 0.
        address: u64,
    },
}

/// State and event after a case.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Registers.
    pub(crate) state: State,
    /// Next instruction, counted from [`CODE`].
    pub(crate) rip: u64,
    /// How it ended.
    pub(crate) event: Event,
}

/// The child and the memory shared with it.
#[derive(Debug)]
pub(crate) struct Host {
    child: libc::pid_t,
    memory: *mut u8,
    /// Registers as the child had them first: segments and the like.
    base: libc::user_regs_struct,
}

impl Host {
    /// Starts the child, or says why it cannot be traced.
    ///
    /// # Errors
    /// memfd, fork or ptrace are not permitted.
    pub(crate) fn new() -> io::Result<Host> {
        let len = PAGE + DATA_LEN;
        // SAFETY: a name and no flags; the result is checked.
        let fd = check(unsafe { libc::memfd_create(c"softcpu-test".as_ptr(), 0) }.into())?;
        let fd = i32::try_from(fd).expect("a descriptor");
        // SAFETY: a descriptor of ours.
        check(unsafe { libc::ftruncate(fd, len as i64) }.into())?;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping wherever there is room.
        let memory = unsafe { libc::mmap(ptr::null_mut(), len, writable, libc::MAP_SHARED, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the child calls nothing but the kernel.
        let child = check(unsafe { libc::fork() }.into())? as libc::pid_t;
        if child == 0 {
            be_traced(fd);
        }
        // SAFETY: a descriptor of ours that is not used again.
        unsafe { libc::close(fd) };
        // SAFETY: plain data for which zeros are a value.
        let base = unsafe { mem::zeroed() };
        let mut host = Host { child, memory: memory.cast(), base };
        let status = host.wait()?;
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::other("the child may not be traced"));
        }
        let exit_with_us = libc::PTRACE_O_EXITKILL as usize;
        host.ptrace(libc::PTRACE_SETOPTIONS, exit_with_us as *mut libc::c_void)?;
        host.base = host.registers()?;
        // The child stopped within a system call, which must not be begun again.
        host.base.orig_rax = u64::MAX;
        Ok(host)
    }

    /// The data pages.
    pub(crate) fn data(&mut self) -> &mut [u8] {
        // SAFETY: within the mapping, past the page of code.
        let data = unsafe { self.memory.add(PAGE) };
        // SAFETY: mapped for as long as `self`, and the child stands still between cases.
        unsafe { slice::from_raw_parts_mut(data, DATA_LEN) }
    }

    fn code(&mut self) -> &mut [u8] {
        // SAFETY: mapped for as long as `self`, and the child stands still between cases.
        unsafe { slice::from_raw_parts_mut(self.memory, PAGE) }
    }

    /// Carries out one instruction, with all its repetitions.
    ///
    /// # Panics
    /// The child is gone, or refuses the state.
    pub(crate) fn run(&mut self, code: &[u8], state: &State) -> Outcome {
        self.code()[..code.len()].copy_from_slice(code);
        let mut registers = to_user(self.base, state);
        self.ptrace(libc::PTRACE_SETREGS, (&raw mut registers).cast()).expect("registers");
        if let Some(fpu) = &state.fpu {
            let mut area = to_area(fpu);
            self.ptrace(libc::PTRACE_SETFPREGS, (&raw mut area).cast()).expect("fp registers");
        }
        let (event, registers) = self.step(repeats(code));
        let fpu = state.fpu.as_ref().map(|_| self.floating_point().expect("fp registers"));
        Outcome { state: from_user(&registers, fpu), rip: registers.rip.wrapping_sub(CODE), event }
    }

    /// Steps once, or until a repeated instruction is left or a signal came.
    fn step(&mut self, repeats: bool) -> (Event, libc::user_regs_struct) {
        for _ in 0..STEPS_MAX {
            self.ptrace(libc::PTRACE_SINGLESTEP, ptr::null_mut()).expect("step");
            let status = self.wait().expect("the child stops");
            assert!(libc::WIFSTOPPED(status), "the child ended: {status:#x}");
            let event = self.event(libc::WSTOPSIG(status)).expect("signal");
            let registers = self.registers().expect("registers");
            if event != Event::Done || registers.rip != CODE || !repeats {
                return (event, registers);
            }
        }
        panic!("one instruction took {STEPS_MAX} steps");
    }

    fn event(&self, number: i32) -> io::Result<Event> {
        // SAFETY: plain data for which zeros are a value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        self.ptrace(libc::PTRACE_GETSIGINFO, (&raw mut info).cast())?;
        if number == libc::SIGTRAP && info.si_code == libc::TRAP_TRACE {
            return Ok(Event::Done);
        }
        // SAFETY: these signals, and the ones that fill less of it, lie in zeroed memory.
        let address = unsafe { info.si_addr() } as u64;
        Ok(Event::Signal { number, code: info.si_code, address })
    }

    fn registers(&self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: plain data for which zeros are a value.
        let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
        self.ptrace(libc::PTRACE_GETREGS, (&raw mut registers).cast())?;
        Ok(registers)
    }

    fn floating_point(&self) -> io::Result<FpuState> {
        // SAFETY: plain data for which zeros are a value.
        let mut area: libc::user_fpregs_struct = unsafe { mem::zeroed() };
        self.ptrace(libc::PTRACE_GETFPREGS, (&raw mut area).cast())?;
        Ok(from_area(&area))
    }

    fn ptrace(&self, request: libc::c_uint, data: *mut libc::c_void) -> io::Result<()> {
        let nowhere: *mut libc::c_void = ptr::null_mut();
        // SAFETY: the requests used here read or write one structure of the right type at `data`.
        check(unsafe { libc::ptrace(request, self.child, nowhere, data) }).map(drop)
    }

    fn wait(&self) -> io::Result<i32> {
        let mut status = 0;
        // SAFETY: a child of ours and a place for its status.
        check(unsafe { libc::waitpid(self.child, &mut status, libc::__WALL) }.into())?;
        Ok(status)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: a child of ours that was not waited for to its end.
        unsafe { libc::kill(self.child, libc::SIGKILL) };
        let _ = self.wait();
        // SAFETY: the mapping made in `new`; nobody holds a slice of it any more.
        unsafe { libc::munmap(self.memory.cast(), PAGE + DATA_LEN) };
    }
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether a prefix says that the instruction is repeated: it traps after each round, and begins
/// where it began. One that jumps to itself does not.
pub(crate) fn repeats(code: &[u8]) -> bool {
    let prefix = |byte: &&u8| matches!(**byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    code.iter().take_while(prefix).any(|byte| matches!(byte, 0xf2 | 0xf3))
}

/// The child's life: it maps the pages, asks to be traced, stops, and is led from then on.
fn be_traced(fd: i32) -> ! {
    let map = |address: u64, len: usize, protection: i32, offset: i64| {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: addresses where nothing of this program lies, or the call fails.
        let got = unsafe { libc::mmap(address as *mut _, len, protection, flags, fd, offset) };
        got as u64 == address
    };
    let ok = map(CODE, PAGE, libc::PROT_READ | libc::PROT_EXEC, 0)
        && map(DATA, DATA_LEN, libc::PROT_READ | libc::PROT_WRITE, PAGE as i64);
    // SAFETY: asks to be traced by the parent.
    let ok = ok && unsafe { libc::ptrace(libc::PTRACE_TRACEME) } == 0;
    if ok {
        // SAFETY: stops this process until the parent goes on.
        unsafe { libc::raise(libc::SIGSTOP) };
    }
    // SAFETY: ends this process.
    unsafe { libc::_exit(1) }
}

fn to_user(base: libc::user_regs_struct, state: &State) -> libc::user_regs_struct {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = state.gpr;
    let (rip, eflags, [fs_base, gs_base]) = (CODE, state.flags, state.bases);
    libc::user_regs_struct {
        rax,
        rcx,
        rdx,
        rbx,
        rsp,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        eflags,
        fs_base,
        gs_base,
        ..base
    }
}

/// The trap flag, which is how the kernel steps.
const STEP: u64 = 1 << 8;

fn from_user(user: &libc::user_regs_struct, fpu: Option<FpuState>) -> State {
    let gpr = [
        user.rax, user.rcx, user.rdx, user.rbx, user.rsp, user.rbp, user.rsi, user.rdi, user.r8,
        user.r9, user.r10, user.r11, user.r12, user.r13, user.r14, user.r15,
    ];
    State { gpr, flags: user.eflags & !STEP, bases: [user.fs_base, user.gs_base], fpu }
}

fn to_area(fpu: &FpuState) -> libc::user_fpregs_struct {
    // SAFETY: plain data for which zeros are a value.
    let mut area: libc::user_fpregs_struct = unsafe { mem::zeroed() };
    area.cwd = fpu.control;
    area.swd = fpu.status;
    area.ftw = fpu.tags.into();
    area.fop = fpu.opcode;
    area.rip = fpu.instruction;
    area.rdp = fpu.operand;
    area.mxcsr = fpu.mxcsr;
    area.mxcr_mask = 0xffff;
    for (register, words) in fpu.st.iter().zip(area.st_space.chunks_mut(4)) {
        for (bytes, word) in register.chunks(4).zip(words) {
            let mut padded = [0; 4];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u32::from_le_bytes(padded);
        }
    }
    for (register, words) in fpu.xmm.iter().zip(area.xmm_space.chunks_mut(4)) {
        for (bytes, word) in register.as_chunks::<4>().0.iter().zip(words) {
            *word = u32::from_le_bytes(*bytes);
        }
    }
    area
}

fn from_area(area: &libc::user_fpregs_struct) -> FpuState {
    let mut fpu = FpuState {
        control: area.cwd,
        status: area.swd,
        tags: area.ftw.to_le_bytes()[0],
        opcode: area.fop,
        instruction: area.rip,
        operand: area.rdp,
        mxcsr: area.mxcsr,
        ..FpuState::default()
    };
    for (register, words) in fpu.st.iter_mut().zip(area.st_space.chunks(4)) {
        for (bytes, word) in register.chunks_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
    }
    for (register, words) in fpu.xmm.iter_mut().zip(area.xmm_space.chunks(4)) {
        for (bytes, word) in register.chunks_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    fpu
}
