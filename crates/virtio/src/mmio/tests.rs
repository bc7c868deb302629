//! A driver at the registers.

use proptest::prelude::*;

use super::*;
use crate::{
    device,
    testing::{Buffer, Rig},
};

/// Says everything back, and counts what happens to it.
#[derive(Debug, Default)]
struct Echo {
    active: Option<u64>,
    chains: u32,
    config: [u8; 5],
}

impl Device for Echo {
    fn kind(&self) -> Kind {
        Kind::Entropy
    }

    fn features(&self) -> u64 {
        1 << 3
    }

    fn queue_sizes(&self) -> &[u16] {
        &[16, 4]
    }

    fn read_config(&self, offset: u64, to: &mut [u8]) {
        device::read_bytes(&self.config, offset, to);
    }

    fn write_config(&mut self, offset: u64, from: &[u8]) {
        if let (Ok(0), [byte]) = (usize::try_from(offset), from) {
            self.config[0] = *byte;
        }
    }

    fn activate(&mut self, features: u64) {
        self.active = Some(features);
    }

    fn process(&mut self, queue: u16, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(ring) = queues.get(queue) else { return Ok(()) };
        while let Some(mut chain) = ring.pop()? {
            let mut bytes = vec![0; chain.reader.left()];
            chain.reader.read(&mut bytes);
            chain.writer.write(&bytes);
            self.chains += 1;
            ring.push(chain.head, chain.writer.written());
        }
        Ok(())
    }

    fn sources(&self) -> Vec<Source<'_>> {
        Vec::new()
    }

    fn ready(&mut self, _token: u32, _queues: &mut Queues) -> Result<(), QueueError> {
        Ok(())
    }

    fn reset(&mut self) {
        (self.active, self.chains) = (None, 0);
    }

    fn save(&self) -> Value {
        device::save(1, &self.chains)
    }

    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        self.chains = device::restore("echo", 1, saved)?;
        Ok(())
    }
}

const ALL: u64 = 1 << 3 | 1 << 28 | 1 << 29 | 1 << 32;

#[test]
fn a_driver_finds_what_it_looks_for() {
    let rig = Rig::bare(Echo { config: [1, 2, 3, 4, 5], ..Echo::default() });
    assert_eq!([0, 4, 8].map(|at| rig.get(at)), [0x7472_6976, 2, 4]);
    let features = [0, 1, 2].map(|half| {
        rig.set(0x14, half);
        rig.get(0x10)
    });
    assert_eq!(features, [1 << 3 | 1 << 28 | 1 << 29, 1, 0]);
    let sizes = [0, 1, 2, u32::MAX].map(|queue| {
        rig.set(0x30, queue);
        rig.get(0x34)
    });
    assert_eq!(sizes, [16, 4, 0, 0]);
    assert_eq!([0xb0, 0xb4, 0xfc].map(|at| rig.get(at)), [u32::MAX, u32::MAX, 0]);
    assert_eq!([0x100, 0x104, 0x108].map(|at| rig.get(at)), [0x0403_0201, 5, 0]);
    let mut byte = [9];
    rig.mmio.read(0x101, &mut byte);
    assert_eq!(byte, [2]);
    rig.mmio.read(0, &mut byte);
    assert_eq!(byte, [0], "registers are read four bytes at a time");
    rig.mmio.write(0x100, &[7]).unwrap();
    assert_eq!(rig.get(0x100), 0x0403_0207);
}

#[test]
fn features_are_agreed_on_or_refused() {
    let rig = Rig::bare(Echo::default());
    assert_eq!(rig.negotiate(ALL), 15);
    assert_eq!(rig.negotiate(1 << 32), 15);
    assert_eq!(rig.negotiate(1 << 3), 3, "a driver of before 1.0");
    assert_eq!(rig.negotiate(1 << 32 | 1 << 7), 3, "what was not offered");
    rig.with(|echo, _| assert_eq!(echo.active, None));
    assert_eq!(rig.negotiate(ALL), 15);
    rig.with(|echo, _| assert_eq!(echo.active, Some(ALL)));
    rig.set(0x70, 1);
    assert_eq!(rig.get(0x70), 15, "bits are only added");
    rig.set(0x24, 0);
    rig.set(0x20, 0);
    rig.with(|echo, _| assert_eq!(echo.active, Some(ALL)));
}

#[test]
fn chains_come_back_and_the_line_follows() {
    let mut rig = Rig::new(Echo::default(), 0);
    let used = rig.request(0, &[Buffer::Read(b"hello"), Buffer::Write(9)]).unwrap();
    assert_eq!((used.written, used.bytes.as_slice()), (5, b"hello\0\0\0\0".as_slice()));
    assert!(rig.wire.is_raised());
    assert_eq!(rig.get(0x60), 1);
    rig.set(0x64, 1);
    assert!(!rig.wire.is_raised());
    rig.with(|_, queues| queues.config_changed());
    assert_eq!((rig.get(0x60), rig.get(0xfc), rig.wire.is_raised()), (2, 1, true));
    rig.set(0x70, 0);
    assert_eq!((rig.get(0x60), rig.get(0x70), rig.wire.is_raised()), (0, 0, false));
    assert_eq!(rig.get(0xfc), 1, "a driver that begins anew sees that it changed");
    rig.rings[0].send(&[Buffer::Read(b"x")]);
    assert_eq!(rig.mmio.process(0), Ok(Again::default()), "there is no driver");
    assert_eq!(rig.mmio.process(77), Ok(Again::default()));
    assert_eq!(rig.rings[0].used(), None);
}

#[test]
fn what_was_sent_before_the_driver_was_ready_is_not_forgotten() {
    let mut rig = Rig::bare(Echo::default());
    rig.rings[1].send(&[Buffer::Read(b"early"), Buffer::Write(5)]);
    assert_eq!(rig.mmio.process(1), Ok(Again::default()), "the doorbell is not heard yet");
    assert_eq!(rig.negotiate(ALL), 15);
    assert_eq!(rig.rings[1].used().unwrap().bytes, b"early");
    assert!(rig.wire.is_raised());
    let mut rig = Rig::bare(Echo::default());
    rig.rings[0].descriptor(0, 1 << 40, 1, 0, 0);
    rig.rings[0].offer(0);
    assert_eq!(rig.negotiate(ALL), 15 | 64);
}

#[test]
fn who_rings_at_the_register_is_told_on() {
    let rig = Rig::new(Echo::default(), 0);
    assert_eq!(rig.mmio.write(0x50, &1u32.to_le_bytes()), Ok(Some(1)));
    assert_eq!(rig.mmio.write(0x50, &2u32.to_le_bytes()), Ok(None));
    assert_eq!(rig.mmio.write(0x50, &0x1_0000u32.to_le_bytes()), Ok(None));
    let doorbells = rig.mmio.doorbells(0xd000_0000);
    let place = Place::Memory(0xd000_0050);
    let doorbell = |value| Doorbell { place, bytes: 4, value: Some(value) };
    assert_eq!(doorbells, [(0, doorbell(0)), (1, doorbell(1))]);
}

#[test]
fn a_broken_queue_needs_a_reset_and_nothing_else_helps() {
    let mut rig = Rig::new(Echo::default(), 0);
    rig.rings[0].descriptor(0, 1 << 40, 1, 0, 0);
    rig.rings[0].offer(0);
    assert!(rig.mmio.process(0).is_err());
    assert_eq!((rig.get(0x70), rig.get(0x60), rig.wire.is_raised()), (15 | 64, 2, true));
    rig.rings[1].send(&[Buffer::Read(b"x")]);
    let quiet = Ok(Again::default());
    assert_eq!((rig.mmio.process(0), rig.mmio.process(1)), (quiet.clone(), quiet));
    assert_eq!(rig.rings[1].used(), None);
    // Setting a queue up again is not enough.
    rig.set(0x30, 1);
    rig.set(0x44, 0);
    rig.set(0x44, 1);
    assert_eq!(rig.mmio.process(1), Ok(Again::default()));
    assert_eq!(rig.rings[1].used(), None);
    rig.renew(&[16, 4]);
    assert_eq!(rig.negotiate(ALL), 15);
}

#[test]
fn a_queue_that_is_none_is_said_to_be_none() {
    let mut rig = Rig::bare(Echo::default());
    rig.rings[1].layout.used = 1 << 50;
    assert_eq!(rig.negotiate(ALL), 15 | 64);
    rig.with(|echo, _| assert_eq!(echo.active, None));
    let error = {
        rig.set(0x70, 0);
        rig.set(0x70, 11);
        rig.set(0x24, 1);
        rig.set(0x20, 1);
        rig.set(0x70, 11);
        rig.set(0x38, 3);
        rig.set(0x44, 1);
        rig.mmio.write(0x70, &15u32.to_le_bytes())
    };
    assert_eq!(error, Err(QueueError::Size { size: 3, max: 16 }));
}

#[test]
fn a_queue_can_be_taken_away_and_set_up_again() {
    let mut rig = Rig::new(Echo::default(), 0);
    rig.set(0x30, 0);
    rig.set(0x44, 0);
    assert_eq!(rig.get(0x44), 0);
    rig.rings[0].send(&[Buffer::Read(b"x"), Buffer::Write(1)]);
    rig.process(0);
    assert_eq!(rig.rings[0].used(), None);
    rig.set(0x44, 1);
    rig.process(0);
    assert_eq!(rig.rings[0].used().unwrap().bytes, b"x");
}

#[test]
fn a_saved_device_goes_on_where_it_was() {
    let mut rig = Rig::new(Echo::default(), 1 << 3);
    rig.request(0, &[Buffer::Read(b"one"), Buffer::Write(3)]).unwrap();
    rig.rings[0].send(&[Buffer::Read(b"two"), Buffer::Write(3)]);
    let saved = serde_json::to_string(&rig.mmio.save().unwrap()).unwrap();
    let wire = Arc::new(crate::testing::Wire::default());
    let other = Arc::new(Mmio::new(Echo::default(), rig.memory.clone(), wire.clone()));
    other.restore(serde_json::from_str(&saved).unwrap()).unwrap();
    assert!(wire.is_raised(), "what was pending is");
    let (rings, memory) = (rig.rings, rig.memory);
    let mut rig = Rig { mmio: other, memory, wire, rings };
    assert_eq!(rig.get(0x70), 15);
    let _ = rig.mmio.process_all().unwrap();
    assert_eq!(rig.rings[0].used().unwrap().bytes, b"two");
    rig.with(|echo, _| assert_eq!((echo.chains, echo.active), (2, Some(ALL))));
}

#[test]
fn what_another_device_saved_is_refused() {
    let rig = Rig::new(Echo::default(), 0);
    let saved = rig.mmio.save().unwrap();
    let refused = |change: fn(&mut Saved)| {
        let mut saved = saved.clone();
        change(&mut saved);
        Rig::bare(Echo::default()).mmio.restore(saved).unwrap_err().to_string()
    };
    assert_eq!(refused(|saved| saved.version = 2), "a saved transport of version 2; known is 1");
    assert_eq!(refused(|saved| saved.kind = Kind::Net), "a saved device that is another: Net");
    assert_eq!(
        refused(|saved| saved.device["version"] = 9.into()),
        "a saved echo of version 9; known is 1"
    );
    assert_eq!(
        refused(|saved| saved.device["state"] = "x".into()),
        "a saved echo that cannot be read"
    );
    assert_eq!(refused(|saved| saved.queues[0].as_mut().unwrap().descriptors = 1), "saved queue 0");
}

proptest! {
    /// Whatever is written to the registers, in whatever order: nothing panics, the line is as the
    /// interrupt status says, and a reset puts all right.
    #[test]
    fn any_writes_leave_a_device_that_can_be_reset(
        writes in proptest::collection::vec(
            (prop_oneof![0u64..0x110, (0u64..0x44).prop_map(|word| 4 * word)],
             prop_oneof![any::<u32>(), 0u32..20],
             prop_oneof![8 => Just(4usize), 1 => 0usize..9]), 0..80),
    ) {
        let mut rig = Rig::bare(Echo::default());
        for (offset, value, bytes) in writes {
            let data: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(bytes).collect();
            let _ = rig.mmio.write(offset, &data);
            let _ = rig.mmio.process(0);
            let mut data = vec![0; bytes];
            rig.mmio.read(offset, &mut data);
            prop_assert_eq!(rig.get(0x60) != 0, rig.wire.is_raised());
        }
        rig.renew(&[16, 4]);
        prop_assert_eq!(rig.negotiate(ALL), 15);
        let used = rig.request(0, &[Buffer::Read(b"x"), Buffer::Write(1)]).unwrap();
        prop_assert_eq!(used.bytes, b"x");
    }
}
