//! The loop: block after block, and between blocks whatever else there is.

use std::{
    fs::File,
    io,
    sync::{Arc, atomic::Ordering},
};

use hv::{HvError, memory::PAGE, state::Activity};

use crate::{
    cache::{CERTAIN, Cache, Key},
    cpu::{CS, Cpu, RIP, SEGMENTS},
    decode::{self, BYTES_MAX, Code, Decoded, INSTRUCTION_MAX},
    deliver::Event,
    device::{Post, Query},
    fault::{Did, Exception, Stop, vector},
    machine::{Seat, Seats},
    mmu::{Access, Place},
    op::{self, Flow, Op, system},
    saved_code::{self, SavedCode},
};

/// How many instructions go by before the clock is looked at: a tenth of a millisecond at most.
const PATIENCE: i64 = 20_000;

/// Most operations of floating point that are kept; beyond that all are forgotten.
const FLOATS_MAX: usize = 8 << 10;

/// How long a processor does next to nothing before it forgets what it had decoded: two seconds.
const REST: u64 = 2_000_000_000;

/// What next to nothing is less than: a kernel's ticks are some ten thousand instructions each.
const REST_INSTRUCTIONS: u64 = 1_000_000;

/// The bit of a key's mode that says that the block is of one instruction, carried out by itself.
const SINGLE: u8 = 0x80;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An answer is needed.
    Read(Query),
    /// Something is written.
    Write(Post),
    Kicked,
    Stuck,
    TripleFault,
}

/// A processor with what it has decoded.
#[derive(Debug)]
pub(crate) struct Processor {
    pub(crate) cpu: Cpu,
    cache: Cache,
    /// Where blocks are decoded.
    decoded: Decoded,
    /// What another one had decoded.
    saved_code: Option<SavedCode>,
    seats: Arc<Seats>,
    /// An interrupt waits for the guest to let it in.
    held_back: bool,
    /// What [`Machine::dirty_asked`](crate::machine::Machine::dirty_asked) was.
    dirty_seen: u64,
    /// Instructions until the clock is looked at.
    patience: i64,
    /// When it was last looked whether it rests, and what it had carried out then.
    rest: (u64, u64),
}

impl Processor {
    pub(crate) fn new(cpu: Cpu) -> Processor {
        let seats = Arc::clone(&cpu.machine.seats);
        Processor {
            cpu,
            cache: Cache::new(),
            decoded: Decoded::default(),
            saved_code: None,
            seats,
            held_back: true,
            dirty_seen: 0,
            patience: 0,
            rest: (0, 0),
        }
    }

    /// Forgets what follows from a state that was replaced.
    pub(crate) fn renew(&mut self) {
        self.held_back = true;
        self.patience = 0;
    }

    /// Writes what it has decoded to a file that is empty, and what it could take over.
    pub(crate) fn save_code(&mut self, to: &File) -> io::Result<()> {
        let memory = &self.cpu.memory;
        let unchanged = |page: usize| !memory.dirty().was_ever(page);
        let page = |page: usize| {
            let mut bytes = [0; PAGE];
            memory.copy_out(page * PAGE, &mut bytes);
            // Of one that is watched no more a write was told, perhaps not yet here.
            (memory.dirty().is_watched(page) || unchanged(page)).then_some(bytes)
        };
        let saved = self.saved_code.as_mut();
        saved_code::write(&self.cache, saved, self.cpu.model, page, unchanged, to)
    }

    /// Uses what another one has written.
    pub(crate) fn load_code(&mut self, from: &File) -> io::Result<()> {
        self.saved_code = Some(SavedCode::open(from, self.cpu.model)?);
        Ok(())
    }

    /// Runs until there is something for the caller to do.
    pub(crate) fn run(&mut self) -> Result<Ending, HvError> {
        self.cpu.renew_clock();
        let asked = self.cpu.machine.dirty_asked.load(Ordering::Acquire);
        if asked != self.dirty_seen {
            self.dirty_seen = asked;
            self.cpu.tlb.protect_all();
            self.cpu.other_tlb.protect_all();
        }
        let machine = Arc::clone(&self.cpu.machine);
        loop {
            if let Some(post) = self.cpu.next_post() {
                return Ok(Ending::Write(post));
            }
            // An instruction that has been answered is brought to its end first.
            if self.cpu.device.answers.is_empty()
                && let Some(ending) = self.attend()
            {
                return Ok(ending);
            }
            machine.exclusion.enter(self.cpu.index);
            let done = match self.cpu.waiting.take() {
                Some(event) => self.deliver(event),
                None => self.go(),
            };
            machine.exclusion.leave(self.cpu.index);
            if let Some(ending) = done? {
                return Ok(ending);
            }
        }
    }

    fn seat(&self) -> &Seat {
        self.seats.get(self.cpu.index).expect("every processor has its seat")
    }

    /// Takes messages, lets timers run out, takes interrupts, sleeps.
    fn attend(&mut self) -> Option<Ending> {
        loop {
            let called = self.seat().attention.load(Ordering::Acquire);
            if called && self.take_mail() {
                return Some(Ending::Kicked);
            }
            let timed = self.patience < 0 || self.cpu.activity != Activity::Running;
            if timed {
                self.patience = PATIENCE;
                let machine = &self.cpu.machine;
                if let Some(at) = machine.chips.next_deadline(self.cpu.index) {
                    let now = machine.now();
                    if at <= now {
                        machine.chips.tick(now);
                        self.held_back = true;
                    }
                }
            }
            let open = self.cpu.interrupts_on() && !self.cpu.shadow;
            if called || timed || self.held_back && open {
                self.take_pending();
            }
            if self.cpu.activity == Activity::Running || self.cpu.waiting.is_some() {
                return None;
            }
            if self.sleep() {
                return Some(Ending::Stuck);
            }
        }
    }

    /// Takes what was posted; whether somebody wants this processor back.
    fn take_mail(&mut self) -> bool {
        let mail = self.seat().take();
        if mail.too_many() {
            self.forget();
            self.cpu.tlb.protect_all();
            self.cpu.other_tlb.protect_all();
            // What could be written unseen may have been, and may be instructions of others.
            for page in &mail.protect {
                self.cpu.memory.dirty().mark(page * PAGE, 1);
            }
        } else {
            for page in &mail.protect {
                if self.protect(*page) {
                    self.cpu.memory.dirty().mark(page * PAGE, 1);
                }
            }
        }
        for page in &mail.written {
            self.cache.forget(*page);
        }
        mail.kicked
    }

    /// Lets a page not be written without notice; gives whether it could be.
    fn protect(&mut self, page: usize) -> bool {
        let offset = (page * PAGE) as u64;
        // Both, whatever the first says.
        self.cpu.tlb.protect(offset) | self.cpu.other_tlb.protect(offset)
    }

    /// Takes INIT, start-up, NMIs and interrupts, as far as they are let in.
    fn take_pending(&mut self) {
        let index = self.cpu.index;
        let cpu = &mut self.cpu;
        let machine = Arc::clone(&cpu.machine);
        let pending = machine.chips.pending(index);
        self.held_back = pending.interrupt || pending.nmi;
        if pending.init && machine.chips.take_init(index) {
            cpu.reset();
            if index != 0 {
                cpu.activity = Activity::WaitForStartup;
            }
            return;
        }
        if pending.startup
            && let Some(page) = machine.chips.take_startup(index)
            && cpu.activity == Activity::WaitForStartup
        {
            cpu.start_up(page);
            return;
        }
        let awake = matches!(cpu.activity, Activity::Running | Activity::Halted);
        if !awake || cpu.shadow || cpu.waiting.is_some() {
            return;
        }
        if pending.nmi && !cpu.nmi_masked && machine.chips.take_nmi(index) {
            cpu.nmi_masked = true;
            cpu.activity = Activity::Running;
            cpu.waiting = Some(Event::Hardware(vector::NMI));
        } else if pending.interrupt
            && cpu.interrupts_on()
            && let Some(vector) = machine.chips.take_interrupt(index)
        {
            cpu.activity = Activity::Running;
            cpu.waiting = Some(Event::Hardware(vector));
        }
    }

    /// Sleeps until something may have changed; whether nothing can wake this machine any more.
    fn sleep(&mut self) -> bool {
        let machine = Arc::clone(&self.cpu.machine);
        let cpu = &self.cpu;
        let mine = 1u64 << cpu.index.min(63);
        let deaf = cpu.activity != Activity::Halted || !cpu.interrupts_on();
        if deaf {
            let asleep = machine.deaf.fetch_or(mine, Ordering::SeqCst) | mine;
            let stuck = asleep.count_ones() == u32::from(machine.vcpus);
            if stuck && !self.seat().attention.load(Ordering::SeqCst) {
                machine.deaf.fetch_and(!mine, Ordering::SeqCst);
                return true;
            }
        }
        let left =
            machine.chips.next_deadline(cpu.index).map(|at| at.saturating_sub(machine.now()));
        if left != Some(0) {
            self.nap(left);
        }
        if deaf {
            machine.deaf.fetch_and(!mine, Ordering::SeqCst);
        }
        false
    }

    /// Sleeps for so many nanoseconds at most. Of a processor that rests, what it had decoded goes
    /// if it is much: many machines on a host do nothing most of the time, and their memory is
    /// others' to use. What its few ticks need stays.
    fn nap(&mut self, left: Option<u64>) {
        let large = self.cache.is_large();
        let watched = left.map_or(REST, |left| left.min(REST));
        self.seat().sleep(if large { Some(watched) } else { left });
        if large && self.rests() {
            self.forget();
        }
    }

    /// Whether it has done next to nothing for some time.
    fn rests(&mut self) -> bool {
        let (now, done) = (self.cpu.machine.now(), self.cpu.instructions);
        let (since, before) = self.rest;
        let passed = now.saturating_sub(since) >= REST;
        let idle = done.wrapping_sub(before) < REST_INSTRUCTIONS;
        if passed || !idle {
            self.rest = (now, done);
        }
        passed && idle
    }

    /// Delivers an event at rip.
    fn deliver(&mut self, event: Event) -> Result<Option<Ending>, HvError> {
        match self.cpu.deliver(event) {
            Ok(()) => {
                self.cpu.shadow = false;
                Ok(None)
            }
            Err(_) if self.cpu.stop == Stop::TripleFault => Ok(Some(Ending::TripleFault)),
            Err(_) => Err(HvError::Invalid(format!(
                "an exception's way leads through a device, at {:#x}",
                self.cpu.regs[RIP]
            ))),
        }
    }

    /// Carries out instructions at rip.
    fn go(&mut self) -> Result<Option<Ending>, HvError> {
        let single = self.cpu.shadow
            || system::single_step(&self.cpu)
            || !self.cpu.device.answers.is_empty();
        let number = match self.find(if single { SINGLE } else { 0 }) {
            Ok(number) => number,
            Err(_) => return self.fault(),
        };
        if single { self.one(number) } else { self.chain(number) }
    }

    /// Delivers the exception that is noted in the processor.
    fn fault(&mut self) -> Result<Option<Ending>, HvError> {
        match self.cpu.stop {
            Stop::Exception(exception) => self.deliver(Event::Exception(exception)),
            Stop::TripleFault => Ok(Some(Ending::TripleFault)),
            Stop::Alone | Stop::Read => Err(HvError::Invalid(format!(
                "instructions at {:#x} cannot be fetched",
                self.cpu.regs[RIP]
            ))),
        }
    }

    /// Carries out blocks until something else is to be done.
    fn chain(&mut self, mut number: u32) -> Result<Option<Ending>, HvError> {
        let seats = Arc::clone(&self.seats);
        let seat = seats.get(self.cpu.index).expect("every processor has its seat");
        loop {
            let block = self.cache.block(number);
            let ops = self.cache.ops(block);
            let cpu = &mut self.cpu;
            let length = ops.len();
            cpu.instructions = cpu.instructions.wrapping_add(length as u64);
            self.patience -= i64::try_from(length).unwrap_or(0);
            let mut flow = Ok(Flow::Leave);
            let mut rest = ops.iter();
            for op in &mut rest {
                flow = (op.run)(cpu, op);
                if flow != Ok(Flow::Next) {
                    break;
                }
            }
            // Comparisons, not a table of jumps, which a processor cannot foresee as well.
            let way = if flow == Ok(Flow::Taken) {
                0
            } else if flow == Ok(Flow::Fall) {
                1
            } else if flow == Ok(Flow::Jump) {
                2
            } else if flow.is_ok() {
                return Ok(None);
            } else {
                let n = length - rest.len() - 1;
                return self.stopped(number, n);
            };
            if seat.attention.load(Ordering::Relaxed) || self.patience < 0 {
                return Ok(None);
            }
            let guess = block.next[way];
            if guess & CERTAIN != 0 {
                number = guess & !CERTAIN;
                continue;
            }
            let Ok((key, linear)) = self.key(0) else { return self.fault() };
            if self.cache.is(guess, key) {
                number = guess;
                continue;
            }
            let generation = self.cache.generation;
            let Ok(next) = self.block_of(key, linear) else { return self.fault() };
            // A cache that was cleared meanwhile has the new block alone.
            if generation == self.cache.generation {
                self.cache.guess(number, way, next);
                if way < 2 {
                    self.cache.link(number, way, next);
                }
            }
            number = next;
        }
    }

    /// The nth operation of a block stopped.
    fn stopped(&mut self, number: u32, n: usize) -> Result<Option<Ending>, HvError> {
        if self.cpu.stop == Stop::Alone {
            return Ok(self.alone(number, n)?.1);
        }
        let ops = self.cache.ops(self.cache.block(number));
        let (at, stack) = (begin(ops, n), ops[n].shape.is_stack());
        self.cpu.regs[RIP] = self.cpu.linear(self.cpu.regs[RIP].wrapping_add(at));
        self.name_stack(stack);
        self.fault()
    }

    /// Gives a fault of the stack its own vector.
    fn name_stack(&mut self, stack: bool) {
        if stack && let Stop::Exception(exception) = self.cpu.stop {
            self.cpu.stop = Stop::Exception(exception.of_stack());
        }
    }

    /// Carries out the nth operation of a block, with leave to reach beyond memory; gives whether it
    /// came to its end.
    fn alone(&mut self, number: u32, n: usize) -> Result<(bool, Option<Ending>), HvError> {
        let ops = self.cache.ops(self.cache.block(number));
        let Some(op) = ops.get(n) else { return Ok((false, None)) };
        let at = begin(ops, n);
        let cpu = &mut self.cpu;
        cpu.alone = true;
        cpu.device.begin();
        let flow = (op.run)(cpu, op);
        cpu.alone = false;
        if flow == Ok(Flow::Next) {
            cpu.regs[RIP] = op::after(cpu, op);
        }
        if flow.is_ok() {
            cpu.device.end();
            return Ok((true, None));
        }
        cpu.device.posted.clear();
        cpu.regs[RIP] = cpu.linear(cpu.regs[RIP].wrapping_add(at));
        if cpu.stop == Stop::Read
            && let Some(query) = cpu.device.asked
        {
            return Ok((false, Some(Ending::Read(query))));
        }
        cpu.device.end();
        let stack = op.shape.is_stack();
        self.name_stack(stack);
        Ok((false, self.fault()?))
    }

    /// Carries out one instruction, the first of a block.
    fn one(&mut self, number: u32) -> Result<Option<Ending>, HvError> {
        let stepping = system::single_step(&self.cpu);
        let open = self.cpu.interrupts_on();
        self.cpu.shadow = false;
        self.cpu.instructions = self.cpu.instructions.wrapping_add(1);
        let first = self.cache.ops(self.cache.block(number)).first();
        let next = first.map_or(0, |op: &Op| op::after(&self.cpu, op));
        let (done, ending) = self.alone(number, 0)?;
        // Whoever takes the flag away himself is stepped once more (`popf`); what enters a handler
        // without it is not.
        let still = system::single_step(&self.cpu) || self.cpu.regs[RIP] == next;
        // A new stack segment holds traps off, too, until the stack pointer is there; `sti`, which
        // lets interrupts in, does not: Intel SDM volume 3, 6.8.3.
        let stack = self.cpu.shadow && self.cpu.interrupts_on() == open;
        if stepping && done && still && !stack {
            let trap = Exception { vector: vector::DB, code: None, address: 1 << 14 };
            return self.deliver(Event::Exception(trap));
        }
        Ok(ending)
    }

    /// The block at rip, decoded if it was not.
    fn find(&mut self, single: u8) -> Did<u32> {
        let (key, linear) = self.key(single)?;
        self.block_of(key, linear)
    }

    /// By what the block at rip is found, and its linear address.
    #[inline(always)]
    fn key(&mut self, single: u8) -> Did<(Key, u64)> {
        let cpu = &mut self.cpu;
        let linear = cpu.linear(cpu.regs[SEGMENTS + CS].wrapping_add(cpu.regs[RIP]));
        let entry = cpu.tlb.entry(linear);
        let offset = if entry.execute == linear & !(PAGE as u64 - 1) {
            usize::try_from(entry.addend.wrapping_add(linear)).unwrap_or(usize::MAX)
        } else {
            match cpu.translate(linear, Access::Execute, cpu.cpl == 3)? {
                Place::Ram(offset) => offset,
                // The bus reads as ones there, and those are no instruction.
                Place::Device(_) => return Err(cpu.undefined()),
            }
        };
        Ok((Key::new(offset, cpu.mode.key() | single), linear))
    }

    /// The block of a key, decoded if it was not.
    #[inline]
    fn block_of(&mut self, key: Key, linear: u64) -> Did<u32> {
        match self.cache.find(key) {
            Some(number) => Ok(number),
            None => self.decode(key, linear),
        }
    }

    #[cold]
    #[inline(never)]
    fn decode(&mut self, key: Key, linear: u64) -> Did<u32> {
        if self.cpu.mode.code != 64 {
            let rip = self.cpu.regs[RIP];
            self.cpu.check_target(rip)?;
        }
        if self.cpu.floats.len() >= FLOATS_MAX {
            self.forget();
        }
        self.cache.make_room();
        self.watch(key.page());
        if self.take_over(key) {
            return Ok(self.cache.insert(key, &mut self.decoded.ops, None));
        }
        let room = PAGE - key.offset() % PAGE;
        let mut bytes = [0; BYTES_MAX + INSTRUCTION_MAX];
        let first = room.min(BYTES_MAX);
        self.cpu.memory.copy_out(key.offset(), &mut bytes[..first]);
        let most = if key.mode() & SINGLE != 0 { 1 } else { decode::BLOCK_MAX };
        self.block(&bytes[..first], most);
        if !self.decoded.ops.is_empty() {
            return Ok(self.cache.insert(key, &mut self.decoded.ops, None));
        }
        // Its first instruction goes on in the next page.
        let next = self.cpu.linear((linear & !(PAGE as u64 - 1)).wrapping_add(PAGE as u64));
        let user = self.cpu.cpl == 3;
        let Place::Ram(second) = self.cpu.translate(next, Access::Execute, user)? else {
            return Err(self.cpu.undefined());
        };
        self.watch(second / PAGE);
        let end = first + INSTRUCTION_MAX;
        self.cpu.memory.copy_out(second, &mut bytes[first..end]);
        self.block(&bytes[..end], 1);
        let ops = &mut self.decoded.ops;
        ops.truncate(1);
        let Some(only) = ops.last() else { return Err(self.cpu.undefined()) };
        ops.push(decode::fall(only.next.into()));
        Ok(self.cache.insert(key, ops, Some(second / PAGE)))
    }

    /// Takes a block over, whose page is watched, if somebody else has decoded it and the page is
    /// still as it was.
    fn take_over(&mut self, key: Key) -> bool {
        let Some(saved) = self.saved_code.as_mut() else { return false };
        key.mode() == saved_code::MODE.key()
            && !self.cpu.memory.dirty().was_ever(key.page())
            && saved.block(key.page(), key.offset() % PAGE, &mut self.decoded.ops)
    }

    /// Decodes a block that begins at rip.
    fn block(&mut self, bytes: &[u8], most: usize) {
        let Cpu { regs, mode, model, floats, .. } = &mut self.cpu;
        let code = Code { bytes, start: regs[RIP], mode: *mode, model: *model };
        self.decoded.block(code, most, floats);
    }

    /// Forgets all that was decoded.
    fn forget(&mut self) {
        self.cache.clear();
        self.cpu.floats = Vec::new();
    }

    /// A page has instructions from now on: whoever writes to it is noticed.
    fn watch(&mut self, page: usize) {
        let first = self.cpu.memory.dirty().watch(page);
        if !first && self.cache.has_page(page) {
            return;
        }
        let written = self.protect(page);
        if !first && written {
            // Another processor has instructions of it, and has not had word of these writes.
            self.cpu.memory.dirty().mark(page * PAGE, 1);
            self.cpu.memory.dirty().watch(page);
        }
        if first || written {
            self.cpu.machine.protect(page, self.cpu.index);
        }
    }
}

/// Where the nth operation of a block begins, relative to it.
fn begin(ops: &[Op], n: usize) -> u64 {
    n.checked_sub(1).map_or(0, |before| ops[before].next.into())
}
