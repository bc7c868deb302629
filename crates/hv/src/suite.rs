//! What every backend has to do, as tests with a guest of our own: boot state, ports, memory where
//! there is none, doorbells, interrupts of every kind, the dirty log, kicks, and a move to another
//! machine in the middle of a run.
//!
//! The guest needs no compiler's run time and no floating point: integers in ring 0, which even the
//! poorest of nested hypervisors carries out. Backends call [`CASES`] from their own tests; each
//! panics with what was wrong, as tests do.

mod alike;
mod cases;
mod code;

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::{
    CpuState, Exit, GuestMemory, Hypervisor, Model, Place, Shape, Vcpu, Vm, memory::PAGE,
    state::gpr,
};

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What must be.
    pub what: &'static str,
    /// Panics if it is not.
    pub test: fn(&dyn Hypervisor),
    /// Whether it asks for more than a processor that is emulated in part can do
    ///.
    pub sound: bool,
}

/// All of them.
pub const CASES: &[Case] = cases::ALL;

pub use alike::chips_alike;
pub use cases::moves_between;

/// Where the guest stands.
const GUEST: u64 = 0x10000;
/// Where a second processor begins.
const OTHER: u64 = 0xa000;
/// How much memory it has.
const MEMORY: u64 = 4 << 20;
/// What ebx holds when it begins, and what it says then.
const SEED: u32 = 0x5eed_f00d;

/// How long a guest may take for anything before it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a guest did, once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Did {
    Wrote(Place, usize, u64),
    Read(Place, usize),
    Kicked,
    Stuck,
    TripleFault,
}

/// A machine with this guest on its first processor.
struct Guest {
    memory: GuestMemory,
    vm: Arc<dyn Vm>,
    vcpu: Box<dyn Vcpu>,
    watch: Watch,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("vm", &self.vm).finish_non_exhaustive()
    }
}

/// Kicks a guest that hangs.
struct Watch {
    hangs: Arc<AtomicBool>,
    _done: mpsc::Sender<()>,
}

impl Watch {
    fn new(vcpu: &dyn Vcpu) -> Watch {
        let (kick, hangs) = (vcpu.kick(), Arc::new(AtomicBool::new(false)));
        let (_done, wait) = mpsc::channel();
        let seen = Arc::clone(&hangs);
        thread::spawn(move || {
            if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                seen.store(true, Ordering::Relaxed);
                kick.kick();
            }
        });
        Watch { hangs, _done }
    }
}

fn number(data: &[u8]) -> u64 {
    data.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn shape(vcpus: u8) -> Shape {
    Shape { vcpus, model: Model::V1 }
}

/// A number that the host expects to find in memory.
fn load(memory: &GuestMemory, at: u64) -> u64 {
    memory.load(at).expect("it is memory")
}

impl Guest {
    /// A machine as after a reset, but for the first instruction.
    fn at_reset(hypervisor: &dyn Hypervisor, vcpus: u8) -> Guest {
        let memory = GuestMemory::new(MEMORY).expect("the host has 4 MiB");
        memory.write(GUEST, code::guest()).expect("it is memory");
        memory.write(OTHER, code::other()).expect("it is memory");
        let vm = hypervisor.create(memory.clone(), &shape(vcpus)).expect("a machine");
        let mut vcpu = vm.vcpu(0).expect("the first processor");
        let mut state = vcpu.state().expect("its state");
        cases::check_reset(&state);
        let code = &mut state.segments[1];
        (code.selector, code.base) = (0x1000, GUEST);
        state.rip = 0;
        state.gpr[gpr::RBX] = SEED.into();
        vcpu.set_state(&state).expect("a state that can be");
        let watch = Watch::new(&*vcpu);
        Guest { memory, vm, vcpu, watch }
    }

    /// A machine whose guest has come to long mode and waits for what it is to do.
    fn started(hypervisor: &dyn Hypervisor, vcpus: u8) -> Guest {
        let mut guest = Guest::at_reset(hypervisor, vcpus);
        guest.writes(Place::Port(0x500), 4, SEED.into());
        guest.writes(Place::Port(0x500), 1, 32);
        guest.writes(Place::Port(0x500), 1, 64);
        guest
    }

    /// Runs until it does something, and gives it this where it reads.
    fn run(&mut self, answer: u64) -> Did {
        let did = match self.vcpu.run().expect("it runs") {
            Exit::MmioRead { address, data } => read(Place::Memory(address), data, answer),
            Exit::PortRead { port, data } => read(Place::Port(port), data, answer),
            Exit::MmioWrite { address, data } => wrote(Place::Memory(address), data),
            Exit::PortWrite { port, data } => wrote(Place::Port(port), data),
            Exit::Kicked => Did::Kicked,
            Exit::Stuck => Did::Stuck,
            Exit::TripleFault => Did::TripleFault,
        };
        assert!(!self.watch.hangs.load(Ordering::Relaxed), "the guest hangs");
        did
    }

    fn writes(&mut self, place: Place, bytes: usize, value: u64) {
        assert_eq!(self.run(0), Did::Wrote(place, bytes, value));
    }

    fn says(&mut self, port: u16, value: u32) {
        self.writes(Place::Port(port), 4, value.into());
    }

    fn reads(&mut self, place: Place, bytes: usize, answer: u64) {
        assert_eq!(self.run(answer), Did::Read(place, bytes));
    }

    /// Tells it what to do next.
    fn command(&mut self, command: u32) {
        self.reads(Place::Port(0x510), 4, command.into());
    }

    /// Has it take what it was told, and stand before it does anything of it.
    fn settle(&mut self) {
        self.vcpu.kick().kick();
        assert_eq!(self.run(0), Did::Kicked);
    }

    /// Everything in it, which stands still.
    fn save(&self) -> (CpuState, crate::ChipState, crate::Clock) {
        let state = self.vcpu.state().expect("its state");
        (state, self.vm.chips().expect("its chips"), self.vm.clock().expect("its clock"))
    }

    /// Another machine that goes on where this one stands.
    fn moved(self, hypervisor: &dyn Hypervisor) -> Guest {
        let (state, chips, clock) = self.save();
        let memory = copy(&self.memory).expect("the host has 4 MiB more");
        drop(self);
        let vm = hypervisor.create(memory.clone(), &shape(1)).expect("another machine");
        let mut vcpu = vm.vcpu(0).expect("its processor");
        vm.set_clock(clock).expect("the clock");
        vm.set_chips(&chips).expect("the chips");
        vcpu.set_state(&state).expect("the state");
        let watch = Watch::new(&*vcpu);
        Guest { memory, vm, vcpu, watch }
    }
}

fn read(place: Place, data: &mut [u8], answer: u64) -> Did {
    let bytes = answer.to_le_bytes();
    data.copy_from_slice(&bytes[..data.len()]);
    Did::Read(place, data.len())
}

fn wrote(place: Place, data: &[u8]) -> Did {
    Did::Wrote(place, data.len(), number(data))
}

/// The same bytes out of a file, as a snapshot is restored: pages are read when they are touched,
/// and what is written stays the guest's own.
fn copy(memory: &GuestMemory) -> io::Result<GuestMemory> {
    let file = File::from(memfd_create("snapshot", MemfdFlags::CLOEXEC)?);
    let mut page = [0; PAGE];
    for at in (0..MEMORY).step_by(PAGE) {
        memory.read(at, &mut page).expect("it is memory");
        file.write_all_at(&page, at)?;
    }
    GuestMemory::restore(file, 0, MEMORY)
}
