//! What is tried in ring 0 and between the rings.
//!
//! Not among them, because the referee does less than processors do: reserved bits of control
//! registers, unknown model-specific registers, addresses that are none in `sysret`, `iret` and
//! MSRs, alignment checks, `ltr` of nothing.

use iced_x86::code_asm::*;

use crate::image::{self as i, asm};

/// One test.
pub(crate) struct Case {
    /// What it is, in the expected output.
    pub(crate) what: &'static str,
    /// Its code, which ends in an exception: [`report`]'s, if in nothing else.
    pub(crate) write: fn(&mut CodeAssembler),
}

macro_rules! cases {
    ($($what:literal => |$a:ident| { $($line:expr;)* })*) => {
        &[$(Case { what: $what, write: |$a| { $( Ends::end($line); )* } }),*]
    };
}

/// A step of a program: one instruction, or a function of several.
trait Ends {
    fn end(self);
}

impl Ends for () {
    fn end(self) {}
}

impl Ends for Result<(), iced_x86::IcedError> {
    fn end(self) {
        self.expect("an instruction");
    }
}

/// The registers as they are, by a software interrupt.
fn report(a: &mut CodeAssembler) {
    asm! { a, a.int(i::REPORT); }
}

fn sel(selector: u64) -> u32 {
    u32::try_from(selector).expect("a selector")
}

/// Goes on behind itself with this code segment and these flags, as a user.
fn user(a: &mut CodeAssembler, code: u64, flags: u32) {
    let mut target = a.create_label();
    asm! { a,
        a.push(sel(i::USER_DATA).cast_signed());
        a.push(u32::try_from(i::USER_STACK).expect("32 bits").cast_signed());
        a.push(flags.cast_signed());
        a.push(sel(code).cast_signed());
        a.lea(rax, ptr(target));
        a.push(rax);
        a.mov(eax, 0x3333);
        a.iretq();
        a.set_label(&mut target);
    }
}

fn user_64(a: &mut CodeAssembler) {
    user(a, i::USER_CODE, 2);
}

/// A frame for `iretq`: rip is that of the label behind it.
fn back(a: &mut CodeAssembler, stack: u64, flags: u32, code: u64) {
    let mut target = a.create_label();
    asm! { a,
        a.push(sel(stack).cast_signed());
        a.push(u32::try_from(i::USER_STACK).expect("32 bits").cast_signed());
        a.push(flags.cast_signed());
        a.push(sel(code).cast_signed());
        a.lea(rax, ptr(target));
        a.push(rax);
        a.iretq();
        a.set_label(&mut target);
    }
    report(a);
}

/// A far return to this segment, behind itself.
fn far_return(a: &mut CodeAssembler, code: u64) {
    let mut target = a.create_label();
    asm! { a,
        a.push(sel(code).cast_signed());
        a.lea(rax, ptr(target));
        a.push(rax);
        a.db(&[0x48, 0xcb]);
        a.set_label(&mut target);
    }
    report(a);
}

/// A far jump or call through memory on the stack.
fn far_jump(a: &mut CodeAssembler, code: u64, call: bool) {
    let mut target = a.create_label();
    asm! { a,
        a.lea(rax, ptr(target));
        a.sub(rsp, 16);
        a.mov(dword_ptr(rsp), eax);
        a.mov(word_ptr(rsp + 4), sel(code));
        a.mov(eax, 0x3333);
        a.db(if call { &[0xff, 0x1c, 0x24] } else { &[0xff, 0x2c, 0x24] });
        a.set_label(&mut target);
    }
    report(a);
}

/// A far return to ring 3.
fn outwards(a: &mut CodeAssembler) {
    let mut target = a.create_label();
    asm! { a,
        a.push(sel(i::USER_DATA).cast_signed());
        a.push(sel(i::USER_STACK).cast_signed());
        a.push(sel(i::USER_CODE).cast_signed());
        a.lea(rax, ptr(target));
        a.push(rax);
        a.db(&[0x48, 0xcb]);
        a.set_label(&mut target);
        a.int(i::USER_GATE);
    }
}

/// `sysret` to 64-bit or 32-bit code behind it.
fn system_return(a: &mut CodeAssembler, wide: bool, flags: u32) {
    let mut target = a.create_label();
    asm! { a,
        a.lea(rcx, ptr(target));
        a.mov(r11d, flags);
        a.db(if wide { &[0x48, 0x0f, 0x07] } else { &[0x0f, 0x07] });
        a.set_label(&mut target);
        a.int(i::USER_GATE);
    }
}

/// `sysexit` to 64-bit or 32-bit code behind it.
fn system_exit(a: &mut CodeAssembler, wide: bool) {
    let mut target = a.create_label();
    asm! { a,
        a.mov(ecx, sel(i::USER_STACK));
        a.lea(rdx, ptr(target));
        a.db(if wide { &[0x48, 0x0f, 0x35] } else { &[0x0f, 0x35] });
        a.set_label(&mut target);
        a.int(i::USER_GATE);
    }
}

/// The entry of a page among the first 2 MiB, in rax.
fn entry(a: &mut CodeAssembler, page: u64) {
    asm! { a, a.mov(rax, qword_ptr(i::PAGES + 8 * (page >> 12))); }
}

/// Sends itself the interrupt.
fn send(a: &mut CodeAssembler) {
    asm! { a,
        a.mov(rdi, 0xfee0_0300u64);
        a.mov(dword_ptr(rdi), (0x4_0000 | i::INTERRUPT).cast_signed());
        a.mov(edi, dword_ptr(rdi));
    }
}

fn set_cr0(a: &mut CodeAssembler, value: u32) {
    asm! { a, a.mov(eax, value); a.mov(cr0, rax); a.mov(eax, 0x3333); }
}

/// Where the referee (QEMU 7.2) is known to do otherwise than the manuals say; there, what is
/// expected is what the manuals say.
pub(crate) const REFEREE_ERRS: &[(&str, &str)] = &[
    ("change of an absent page", CHANGE),
    ("exchange with an absent page", CHANGE),
    ("comparison and exchange with an absent page", CHANGE),
    ("read of a page of one GiB", "it has such pages whatever cpuid says"),
    ("no address: user's stack", STACK),
    ("no address: base pointer", STACK),
    ("no address: jump", "it looks at the target once it is there: Intel SDM volume 2, JMP"),
    ("int1", "it has none: Intel SDM volume 2, INT1"),
    ("gate that users may not take", GATE),
    ("absent gate", GATE),
    ("absent gate that users may not take", GATE),
    ("gate of no type", GATE),
    ("return from ring 3 to ring 3", GATE),
    ("far jump to conforming code", GATE),
    ("sse error", "it raises none of SSE's exceptions: Intel SDM volume 1, 11.5"),
    ("32-bit code and a null segment", "it does not look: Intel SDM volume 3, 3.4.2"),
    ("system call", FLAGS),
    ("system call from ring 0", FLAGS),
];

const CHANGE: &str = "what reads and writes faults as a write: Intel SDM volume 3, 4.7";
const STACK: &str = "it knows no stack fault of addresses: Intel SDM volume 2, PUSH";
const GATE: &str = "an error code has the vector times eight: Intel SDM volume 3, 6.13";
const FLAGS: &str = "it loses the arithmetic flags: Intel SDM volume 2, SYSCALL";

/// All of them; their order is their number.
pub(crate) const CASES: &[Case] = cases! {
    "read of an absent page" => |a| { a.mov(eax, dword_ptr(i::ABSENT)); }
    "write to an absent page" => |a| { a.mov(dword_ptr(i::ABSENT), eax); }
    "change of an absent page" => |a| { a.add(dword_ptr(i::ABSENT), eax); }
    "exchange with an absent page" => |a| { a.xchg(dword_ptr(i::ABSENT), eax); }
    "comparison and exchange with an absent page" => |a| { a.cmpxchg(dword_ptr(i::ABSENT), ecx); }
    "test of a bit in an absent page" => |a| { a.bt(dword_ptr(i::ABSENT), 3); }
    "write to a page to read" => |a| { a.mov(dword_ptr(i::READ_ONLY), eax); }
    "read of a page to read" => |a| { a.mov(eax, dword_ptr(i::READ_ONLY)); report(a); }
    "write to it without write protection" => |a| {
        set_cr0(a, 0x8000_0033); a.mov(dword_ptr(i::READ_ONLY), eax); entry(a, i::READ_ONLY); report(a);
    }
    "read of a page with a reserved bit" => |a| { a.mov(eax, dword_ptr(i::RESERVED)); }
    "write to a page with a reserved bit" => |a| { a.mov(dword_ptr(i::RESERVED), eax); }
    "read of a large page that is not aligned" => |a| { a.mov(eax, dword_ptr(0x20_0000u64)); }
    "read of an absent large page" => |a| { a.mov(eax, dword_ptr(0x40_0000u64)); }
    "read of a page of one GiB" => |a| { a.mov(eax, dword_ptr(0x4000_0000u64)); report(a); }
    "read beyond the last table" => |a| { a.mov(rbx, 0x80_0000_0000u64); a.mov(eax, dword_ptr(rbx)); }
    "jump to an absent page" => |a| { a.mov(ebx, sel(i::ABSENT)); a.jmp(rbx); }
    "jump to a page without execution" => |a| { a.mov(ebx, sel(i::NO_EXECUTE)); a.jmp(rbx); }
    "jump to one that its directory keeps from execution" => |a| { a.mov(ebx, 0x8010_0000u32); a.jmp(rbx); }
    "instruction that goes on in an absent page" => |a| {
        a.mov(ebx, sel(i::LAST) + 0xfff); a.mov(byte_ptr(rbx), 0xb8u32.cast_signed()); a.jmp(rbx);
    }
    "operand that goes on in an absent page" => |a| { a.mov(ebx, sel(i::LAST) + 0xffe); a.mov(dword_ptr(rbx), eax); }
    "load that goes on in an absent page" => |a| { a.mov(ebx, sel(i::LAST) + 0xffd); a.mov(rax, qword_ptr(rbx)); }
    "push onto an absent page" => |a| { a.mov(esp, sel(i::ABSENT) + 0x800); a.push(rax); }
    "string to an absent page" => |a| {
        a.mov(edi, sel(i::LAST) + 0xff0); a.mov(ecx, 100); a.rep().stosb();
    }
    "user reads a supervisor's page" => |a| { user_64(a); a.mov(eax, dword_ptr(i::SUPERVISOR)); }
    "user writes a supervisor's page" => |a| { user_64(a); a.mov(dword_ptr(i::SUPERVISOR), eax); }
    "user jumps to a supervisor's page" => |a| { user_64(a); a.mov(ebx, sel(i::SUPERVISOR)); a.jmp(rbx); }
    "user reads an absent page" => |a| { user_64(a); a.mov(eax, dword_ptr(i::ABSENT)); }
    "user writes a page to read" => |a| { user_64(a); a.mov(dword_ptr(i::USER_READ_ONLY), eax); }
    "user jumps to a page without execution" => |a| { user_64(a); a.mov(ebx, sel(i::NO_EXECUTE)); a.jmp(rbx); }
    "user reads a reserved page" => |a| { user_64(a); a.mov(eax, dword_ptr(i::RESERVED)); }
    "user reads the supervisor's large page" => |a| { user_64(a); a.mov(eax, dword_ptr(0x60_0000u64)); }
    "accessed is set" => |a| { a.mov(eax, dword_ptr(i::SUPERVISOR)); entry(a, i::SUPERVISOR); report(a); }
    "dirty is set" => |a| { a.mov(dword_ptr(i::SUPERVISOR), eax); entry(a, i::SUPERVISOR); report(a); }
    "a translation is kept until it is invalidated" => |a| {
        a.mov(eax, dword_ptr(i::SUPERVISOR));
        a.and(qword_ptr(i::PAGES + 8 * (i::SUPERVISOR >> 12)), -2);
        a.mov(rbx, i::SUPERVISOR); a.invlpg(ptr(rbx)); a.mov(eax, dword_ptr(i::SUPERVISOR));
    }
    "no address: load" => |a| { a.mov(rbx, 0x8000_0000_0000u64); a.mov(eax, dword_ptr(rbx)); }
    "no address: user's stack" => |a| { user_64(a); a.mov(rsp, 0x8000_0000_0100u64); a.push(rax); }
    "no address: base pointer" => |a| { a.mov(rbp, 0x8000_0000_0000u64); a.mov(eax, dword_ptr(rbp)); }
    "no address: jump" => |a| { a.mov(rbx, 0x8000_0000_0000u64); a.jmp(rbx); }
    "selector beyond the table" => |a| { a.mov(eax, sel(i::BEYOND) | 2); a.mov(ds, eax); }
    "selector of an empty local table" => |a| { a.mov(eax, 0x14 | 1); a.mov(ds, eax); }
    "absent data" => |a| { a.mov(eax, sel(i::ABSENT_DATA)); a.mov(ds, eax); }
    "absent stack" => |a| { a.mov(eax, sel(i::ABSENT_DATA)); a.mov(ss, eax); }
    "code to execute only as data" => |a| { a.mov(eax, sel(i::EXECUTE_ONLY)); a.mov(es, eax); }
    "data to read as a stack" => |a| { a.mov(eax, sel(i::READ_ONLY_DATA)); a.mov(ss, eax); }
    "a stack of another privilege" => |a| { a.mov(eax, sel(i::USER_DATA)); a.mov(ss, eax); }
    "a null stack in ring 0" => |a| { a.xor(eax, eax); a.mov(ss, eax); a.mov(eax, ss); report(a); }
    "a null stack in ring 3" => |a| { user_64(a); a.xor(eax, eax); a.mov(ss, eax); }
    "a supervisor's segment in ring 3" => |a| { user_64(a); a.mov(eax, sel(i::DATA)); a.mov(ds, eax); }
    "a task's descriptor as data" => |a| { a.mov(eax, sel(i::TASK)); a.mov(es, eax); }
    "cs cannot be loaded" => |a| { a.db(&[0x8e, 0xc8]); }
    "ltr of data" => |a| { a.mov(eax, sel(i::DATA)); a.ltr(ax); }
    "ltr of a busy task" => |a| { a.mov(eax, sel(i::TASK)); a.ltr(ax); }
    "ltr of an absent task" => |a| { a.mov(eax, sel(i::ABSENT_TASK)); a.ltr(ax); }
    "lldt of data" => |a| { a.mov(eax, sel(i::DATA)); a.lldt(ax); }
    "lldt of nothing" => |a| { a.xor(eax, eax); a.lldt(ax); a.sldt(eax); report(a); }
    "str" => |a| { a.str(eax); report(a); }
    "smsw" => |a| { a.smsw(eax); report(a); }
    "lar of code" => |a| { a.mov(ecx, sel(i::CODE)); a.lar(eax, ecx); report(a); }
    "lar of a task" => |a| { a.mov(ecx, sel(i::TASK)); a.lar(eax, ecx); report(a); }
    "lar of nothing" => |a| { a.xor(ecx, ecx); a.lar(eax, ecx); report(a); }
    "lar of what users may not see" => |a| { user_64(a); a.mov(ecx, sel(i::CODE)); a.lar(eax, ecx); a.int(i::USER_GATE); }
    "lsl of data" => |a| { a.mov(ecx, sel(i::DATA)); a.lsl(eax, ecx); report(a); }
    "lsl of a task" => |a| { a.mov(ecx, sel(i::TASK)); a.lsl(eax, ecx); report(a); }
    "verr of code to execute only" => |a| { a.mov(eax, sel(i::EXECUTE_ONLY)); a.verr(ax); report(a); }
    "verr of code" => |a| { a.mov(eax, sel(i::CODE)); a.verr(ax); report(a); }
    "verw of data to read" => |a| { a.mov(eax, sel(i::READ_ONLY_DATA)); a.verw(ax); report(a); }
    "verw of data" => |a| { a.mov(eax, sel(i::DATA)); a.verw(ax); report(a); }
    "division by zero" => |a| { a.div(ebx); }
    "user's division by zero" => |a| { user_64(a); a.div(ebx); }
    "undefined" => |a| { a.ud2(); }
    "lock of a register" => |a| { a.db(&[0xf0, 0x01, 0xc0]); }
    "breakpoint" => |a| { a.int3(); }
    "user's breakpoint" => |a| { user_64(a); a.int3(); }
    "int1" => |a| { a.db(&[0xf1]); }
    "int 3 in two bytes" => |a| { a.int(3); }
    "user's gate" => |a| { user_64(a); a.int(i::USER_GATE); }
    "gate that users may not take" => |a| { user_64(a); a.int(i::REPORT); }
    "absent gate" => |a| { a.int(i::GATE_ABSENT); }
    "absent gate that users may not take" => |a| { user_64(a); a.int(i::GATE_ABSENT); }
    "gate of no type" => |a| { a.int(i::GATE_TYPE); }
    "gate without a segment" => |a| { a.int(i::GATE_NULL); }
    "gate to data" => |a| { a.int(i::GATE_DATA); }
    "gate to absent code" => |a| { a.int(i::GATE_ABSENT_CODE); }
    "gate with a stack of its own" => |a| { a.int(i::GATE_STACK); }
    "user's gate with a stack of its own" => |a| { user_64(a); a.int(i::GATE_STACK); }
    "trap gate lets interrupts be" => |a| { a.sti(); a.int(i::GATE_TRAP); }
    "frames are aligned" => |a| { a.sub(rsp, 5); a.int(i::REPORT); }
    "fault while a fault is delivered" => |a| { a.mov(esp, sel(i::ABSENT) + 0x800); a.ud2(); }
    "user's halt" => |a| { user_64(a); a.hlt(); }
    "user's cli" => |a| { user_64(a); a.cli(); }
    "cli with leave" => |a| { user(a, i::USER_CODE, 0x3202); a.cli(); a.int(i::USER_GATE); }
    "user's flags with leave for ports" => |a| { user(a, i::USER_CODE, 0x3002); a.push(0x202); a.popfq(); a.int(i::USER_GATE); }
    "user's flags without" => |a| { user_64(a); a.push(0x3202); a.popfq(); a.int(i::USER_GATE); }
    "user's control register" => |a| { user_64(a); a.mov(rax, cr0); }
    "user's msr" => |a| { user_64(a); a.rdmsr(); }
    "user's lgdt" => |a| { user_64(a); a.lgdt(ptr(i::GDT + 0x100)); }
    "user's invlpg" => |a| { user_64(a); a.invlpg(ptr(rsp)); }
    "user's port that is not his" => |a| { user_64(a); a.in_(al, 0x07); }
    "user's port beyond the map" => |a| { user_64(a); a.mov(edx, 0x3f8); a.in_(al, dx); }
    "user's port" => |a| { user_64(a); a.out(0x08, al); a.int(i::USER_GATE); }
    "user's port half his" => |a| { user_64(a); a.in_(ax, 0x07); }
    "x87 of another task" => |a| { set_cr0(a, 0x8001_003b); a.fninit(); }
    "sse of another task" => |a| { set_cr0(a, 0x8001_003b); a.xorps(xmm0, xmm0); }
    "x87 that is not there" => |a| { set_cr0(a, 0x8001_0037); a.fninit(); }
    "sse that is not there" => |a| { set_cr0(a, 0x8001_0037); a.xorps(xmm0, xmm0); }
    "wait of another task" => |a| { set_cr0(a, 0x8001_003b); a.wait(); }
    "clts" => |a| { set_cr0(a, 0x8001_003b); a.clts(); a.mov(rax, cr0); report(a); }
    "x87 error" => |a| {
        a.fninit(); a.push(0x33b); a.fldcw(word_ptr(rsp)); a.fld1(); a.fldz(); a.fdivp(st1, st0);
        a.wait();
    }
    "sse error" => |a| {
        a.fninit(); a.push(0x1d80); a.ldmxcsr(dword_ptr(rsp)); a.mov(eax, 1); a.cvtsi2ss(xmm0, eax);
        a.xorps(xmm1, xmm1); a.divss(xmm0, xmm1);
    }
    "step" => |a| { a.push(0x102); a.popfq(); a.nop(); a.nop(); }
    "user's step" => |a| { user(a, i::USER_CODE, 0x102); a.nop(); a.nop(); }
    "step over a move to the stack" => |a| { a.push(0x102); a.mov(ebx, 0x10); a.popfq(); a.mov(ss, ebx); a.nop(); a.nop(); }
    "return to ring 0" => |a| { back(a, i::DATA, 2, i::CODE); }
    "return to ring 0 with a null stack" => |a| { back(a, 0, 2, i::CODE); }
    "return to ring 3 with a null stack" => |a| { back(a, 3, 2, i::USER_CODE); }
    "return to ring 3 with the supervisor's stack" => |a| { back(a, i::DATA, 2, i::USER_CODE); }
    "return to ring 3 with an absent stack" => |a| { back(a, i::ABSENT_DATA | 3, 2, i::USER_CODE); }
    "return to nothing" => |a| { back(a, i::DATA, 2, 0); }
    "return to data" => |a| { back(a, i::DATA, 2, i::DATA); }
    "return to absent code" => |a| { back(a, i::DATA, 2, i::ABSENT_CODE); }
    "return beyond the table" => |a| { back(a, i::DATA, 2, i::BEYOND); }
    "return to code of another privilege" => |a| { back(a, i::DATA, 2, i::CODE | 3); }
    "return to the inside" => |a| { user_64(a); back(a, i::DATA, 2, i::CODE); }
    "return from ring 3 to ring 3" => |a| { user_64(a); back(a, i::USER_DATA, 0x3246, i::USER_CODE); }
    "return of a nested task" => |a| { a.push(0x4002); a.popfq(); back(a, i::DATA, 2, i::CODE); }
    "return to 32-bit code" => |a| {
        user(a, i::USER_CODE_32, 2); a.db(&[0xb8, 0x78, 0x56, 0x34, 0x12, 0xcd, 0x80]);
    }
    "32-bit code has no syscall gate below" => |a| {
        user(a, i::USER_CODE_32, 2); a.db(&[0x40, 0x40, 0x06, 0x07, 0xcd, 0x80]);
    }
    "32-bit code and an absent page" => |a| {
        user(a, i::USER_CODE_32, 2);
        a.db(&[0xb8, 0x23, 0, 0, 0, 0x8e, 0xd8, 0xc7, 0x05, 0, 0, 0x1f, 0, 1, 0, 0, 0]);
    }
    "32-bit code and a null segment" => |a| {
        user(a, i::USER_CODE_32, 2); a.db(&[0xc7, 0x05, 0, 0, 0x1f, 0, 1, 0, 0, 0]);
    }
    "far return to ring 0" => |a| { far_return(a, i::CODE); }
    "far return to conforming code" => |a| { far_return(a, i::CONFORMING); }
    "far return to data" => |a| { far_return(a, i::DATA); }
    "far return to absent code" => |a| { far_return(a, i::ABSENT_CODE); }
    "far return to nothing" => |a| { far_return(a, 0); }
    "far return outwards" => |a| { outwards(a); }
    "far return inwards" => |a| { user_64(a); far_return(a, i::CODE); }
    "far jump" => |a| { far_jump(a, i::CODE, false); }
    "far jump to conforming code" => |a| { user_64(a); far_jump(a, i::CONFORMING, false); }
    "far jump to code of ring 3" => |a| { far_jump(a, i::USER_CODE, false); }
    "far jump inwards" => |a| { user_64(a); far_jump(a, i::CODE, false); }
    "far jump to data" => |a| { far_jump(a, i::DATA, false); }
    "far jump to absent code" => |a| { far_jump(a, i::ABSENT_CODE, false); }
    "far jump to 32-bit code" => |a| { far_jump(a, i::CODE_32, false); }
    "far call" => |a| { far_jump(a, i::CODE, true); }
    "far call to data" => |a| { far_jump(a, i::DATA, true); }
    "system call" => |a| { user(a, i::USER_CODE, 0x4_06d7); a.syscall(); }
    "system call from ring 0" => |a| { a.syscall(); }
    "system call that is switched off" => |a| {
        a.mov(ecx, 0xc000_0080u32); a.rdmsr(); a.and(eax, -2); a.wrmsr(); a.syscall();
    }
    "system return that is switched off" => |a| { a.db(&[0x48, 0x0f, 0x07]); }
    "system calls are on again" => |a| {
        a.mov(ecx, 0xc000_0080u32); a.rdmsr(); a.or(eax, 1); a.wrmsr(); a.rdmsr(); report(a);
    }
    "system return" => |a| { system_return(a, true, 0x3246); }
    "system return to 32-bit code" => |a| { system_return(a, false, 0x202); }
    "user's system return" => |a| { user_64(a); a.db(&[0x48, 0x0f, 0x07]); }
    "sysenter" => |a| { user_64(a); a.sysenter(); }
    "sysenter from 32-bit code" => |a| { user(a, i::USER_CODE_32, 0x202); a.db(&[0x0f, 0x34]); }
    "sysexit" => |a| { system_exit(a, true); }
    "sysexit to 32-bit code" => |a| { system_exit(a, false); }
    "user's sysexit" => |a| { user_64(a); a.db(&[0x48, 0x0f, 0x35]); }
    "swapgs" => |a| {
        a.mov(ecx, 0xc000_0102u32); a.mov(eax, 0x1234); a.xor(edx, edx); a.wrmsr();
        a.swapgs(); a.mov(ecx, 0xc000_0101u32); a.rdmsr(); report(a);
    }
    "user's swapgs" => |a| { user_64(a); a.swapgs(); }
    "interrupt behind sti" => |a| { send(a); a.sti(); a.inc(eax); a.inc(eax); a.inc(eax); }
    "interrupt of a halted processor" => |a| { send(a); a.sti(); a.hlt(); a.inc(eax); }
    "interrupt of a user" => |a| { send(a); user(a, i::USER_CODE, 0x202); a.inc(eax); a.inc(eax); }
    "interrupt behind popf" => |a| { send(a); a.push(0x202); a.popfq(); a.inc(eax); a.inc(eax); }
    "interrupt between rounds of nothing" => |a| { send(a); a.pushfq(); a.sti(); a.cli(); report(a); }
    "task priority" => |a| { a.mov(eax, 15); a.mov(cr8, rax); a.mov(rax, cr8); report(a); }
    "interrupt above the priority waits" => |a| { send(a); a.sti(); a.nop(); a.nop(); a.cli(); report(a); }
    "and comes when it may" => |a| { a.sti(); a.xor(eax, eax); a.mov(cr8, rax); a.inc(eax); a.inc(eax); }
};
