//! A backend whose processors follow a script instead of the guest's memory.

use std::{
    collections::VecDeque,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use hv::{
    Accel, ChipState, Clock, CpuState, Doorbell, Exit, GuestMemory, HvError, Hypervisor, Kick,
    Place, Shape, Vcpu, Vm,
    state::{Activity, Events, FpuState, IoApicState, PicState, PitChannelState, Segment, Table},
};

/// One thing that a processor does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Writes to a port.
    Out(u16, Vec<u8>),
    /// Reads from a port until it gives this.
    In(u16, u8),
    /// Writes 32 bits to memory that is none.
    Store(u64, u32),
    /// Reads 32 bits until they are these.
    Load(u64, u32),
    /// Halts for good.
    Stop,
    TripleFault,
    /// The backend breaks.
    Fail,
    /// The thread panics.
    Panic,
    /// Something else moves on: what it waits for.
    Wait(Arc<AtomicBool>),
    Signal(Arc<AtomicBool>),
}

/// What all see.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) lines: Mutex<Vec<(u32, bool)>>,
    doorbells: Mutex<Vec<(Doorbell, OwnedFd)>>,
    chips: Mutex<Option<ChipState>>,
    clock: Mutex<u64>,
    pub(super) runs: Mutex<usize>,
}

#[derive(Debug)]
pub(super) struct Fake {
    scripts: Mutex<Vec<Vec<Step>>>,
    pub(super) seen: Arc<Seen>,
}

impl Fake {
    pub(super) fn new(scripts: Vec<Vec<Step>>) -> Fake {
        Fake { scripts: Mutex::new(scripts), seen: Arc::default() }
    }
}

impl Hypervisor for Fake {
    fn accel(&self) -> Accel {
        Accel::Soft
    }

    fn create(&self, _: GuestMemory, shape: &Shape) -> Result<Arc<dyn Vm>, HvError> {
        let scripts = std::mem::take(&mut *self.scripts.lock().unwrap());
        assert_eq!(scripts.len(), usize::from(shape.vcpus));
        let cpus = scripts.into_iter().enumerate().map(|(index, script)| {
            Some(FakeCpu {
                script: script.into(),
                state: reset(index),
                kick: Arc::default(),
                seen: self.seen.clone(),
                data: Vec::new(),
                stopped: false,
                wanted: None,
            })
        });
        Ok(Arc::new(FakeVm { cpus: Mutex::new(cpus.collect()), seen: self.seen.clone() }))
    }
}

#[derive(Debug)]
struct FakeVm {
    cpus: Mutex<Vec<Option<FakeCpu>>>,
    seen: Arc<Seen>,
}

impl Vm for FakeVm {
    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, HvError> {
        let cpu = self.cpus.lock().unwrap()[usize::from(index)].take();
        cpu.map(|cpu| Box::new(cpu) as Box<dyn Vcpu>)
            .ok_or_else(|| HvError::Invalid("taken".to_owned()))
    }

    fn line(&self, line: u32, raised: bool) -> Result<(), HvError> {
        self.seen.lines.lock().unwrap().push((line, raised));
        Ok(())
    }

    fn message(&self, _: u64, _: u32) -> Result<(), HvError> {
        Ok(())
    }

    fn doorbell(&self, at: Doorbell, ring: OwnedFd) -> Result<(), HvError> {
        self.seen.doorbells.lock().unwrap().push((at, ring));
        Ok(())
    }

    fn line_event(&self, _: u32, _: BorrowedFd<'_>) -> Result<(), HvError> {
        Ok(())
    }

    fn log_dirty(&self) -> Result<(), HvError> {
        Ok(())
    }

    fn clock(&self) -> Result<Clock, HvError> {
        Ok(Clock { nanoseconds: *self.seen.clock.lock().unwrap() })
    }

    fn set_clock(&self, clock: Clock) -> Result<(), HvError> {
        *self.seen.clock.lock().unwrap() = clock.nanoseconds;
        Ok(())
    }

    fn chips(&self) -> Result<ChipState, HvError> {
        let chips = self.seen.chips.lock().unwrap().clone();
        Ok(chips.unwrap_or(ChipState {
            ioapic: IoApicState::default(),
            pics: [PicState::default(); 2],
            pit: [PitChannelState::default(); 3],
            speaker: 0,
        }))
    }

    fn set_chips(&self, chips: &ChipState) -> Result<(), HvError> {
        *self.seen.chips.lock().unwrap() = Some(chips.clone());
        Ok(())
    }
}

#[derive(Debug)]
struct FakeCpu {
    script: VecDeque<Step>,
    state: CpuState,
    kick: Arc<FakeKick>,
    seen: Arc<Seen>,
    data: Vec<u8>,
    stopped: bool,
    /// What the read that is under way is repeated for.
    wanted: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct FakeKick(Mutex<bool>, Condvar);

impl Kick for FakeKick {
    fn kick(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

impl FakeKick {
    /// Whether it was kicked, or will be within the time that is given.
    fn taken(&self, wait: bool) -> bool {
        let mut kicked = self.0.lock().unwrap();
        while wait && !*kicked {
            kicked = self.1.wait(kicked).unwrap();
        }
        std::mem::take(&mut kicked)
    }
}

impl FakeCpu {
    /// Whether a doorbell caught a write.
    fn rung(&self, address: u64, data: &[u8]) -> bool {
        let value = u64::from(u32::from_le_bytes(data.try_into().unwrap()));
        let bells = self.seen.doorbells.lock().unwrap();
        let bell = bells.iter().find(|(bell, _)| {
            bell.place == Place::Memory(address) && bell.value.is_none_or(|v| v == value)
        });
        bell.map(|(_, fd)| rustix::io::write(fd, &1u64.to_le_bytes()).unwrap()).is_some()
    }
}

impl Vcpu for FakeCpu {
    fn run(&mut self) -> Result<Exit<'_>, HvError> {
        *self.seen.runs.lock().unwrap() += 1;
        self.state.gpr[0] += 1;
        loop {
            if let Some(wanted) = self.wanted.take()
                && self.data == wanted
            {
                self.script.pop_front();
            }
            let Some(step) = self.script.front().cloned() else {
                self.kick.taken(true);
                return Ok(Exit::Kicked);
            };
            if self.kick.taken(false) {
                return Ok(Exit::Kicked);
            }
            match step {
                Step::In(port, wanted) => {
                    self.data = vec![0];
                    self.wanted = Some(vec![wanted]);
                    return Ok(Exit::PortRead { port, data: &mut self.data });
                }
                Step::Load(address, wanted) => {
                    self.data = vec![0; 4];
                    self.wanted = Some(wanted.to_le_bytes().to_vec());
                    return Ok(Exit::MmioRead { address, data: &mut self.data });
                }
                Step::Wait(flag) => {
                    if flag.load(Ordering::SeqCst) {
                        self.script.pop_front();
                    } else {
                        std::thread::yield_now();
                    }
                    continue;
                }
                Step::Stop if self.stopped => {
                    self.kick.taken(true);
                    return Ok(Exit::Kicked);
                }
                Step::Stop => {
                    self.stopped = true;
                    self.state.activity = Activity::Halted;
                    return Ok(Exit::Stuck);
                }
                Step::Out(..)
                | Step::Store(..)
                | Step::TripleFault
                | Step::Fail
                | Step::Panic
                | Step::Signal(_) => {}
            }
            self.script.pop_front();
            match step {
                Step::Out(port, data) => {
                    self.data = data;
                    return Ok(Exit::PortWrite { port, data: &self.data });
                }
                Step::Store(address, value) => {
                    self.data = value.to_le_bytes().to_vec();
                    if !self.rung(address, &self.data) {
                        return Ok(Exit::MmioWrite { address, data: &self.data });
                    }
                }
                Step::TripleFault => return Ok(Exit::TripleFault),
                Step::Fail => return Err(HvError::Invalid("broken".to_owned())),
                Step::Signal(flag) => flag.store(true, Ordering::SeqCst),
                Step::Panic => panic!("as the script says"),
                Step::In(..) | Step::Load(..) | Step::Wait(_) | Step::Stop => {}
            }
        }
    }

    fn kick(&self) -> Arc<dyn Kick> {
        self.kick.clone()
    }

    fn state(&self) -> Result<CpuState, HvError> {
        Ok(self.state.clone())
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), HvError> {
        self.state = state.clone();
        Ok(())
    }
}

/// As after a reset: the first runs, the others wait to be started.
fn reset(index: usize) -> CpuState {
    CpuState {
        gpr: [0; 16],
        rip: 0xfff0,
        rflags: 2,
        segments: [Segment::default(); 6],
        tr: Segment::default(),
        ldt: Segment::default(),
        gdt: Table::default(),
        idt: Table::default(),
        cr0: 0x6000_0010,
        cr2: 0,
        cr3: 0,
        cr4: 0,
        cr8: 0,
        xcr0: 1,
        debug: [0; 6],
        msrs: Vec::new(),
        fpu: FpuState::default(),
        apic: Vec::new(),
        activity: if index == 0 { Activity::Running } else { Activity::WaitForStartup },
        events: Events::default(),
    }
}
