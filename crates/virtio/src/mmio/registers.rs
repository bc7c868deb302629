//! The registers themselves: what a driver has said so far.
//!
//! ```text
//! reset ─▶ ACKNOWLEDGE ─▶ DRIVER ─▶ FEATURES_OK ─▶ DRIVER_OK
//!   ▲        features are chosen ─────┘ (refused: the bit stays clear)
//!   │                       queues are set up ─────────┘
//!   └──────────────────── 0 is written to the status ──┘
//! ```
//!
//! Pure: what has to be done to the device comes out as a [`Change`].
//!
//! Source: virtio 1.2, 2.1, 3.1 and 4.2.2.

use serde::{Deserialize, Serialize};

use crate::{
    device::{Device, Kind, RestoreError},
    queue::{Layout, RingFeatures},
    signal::Pending,
};

/// `VIRTIO_F_INDIRECT_DESC`.
const INDIRECT: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`.
const EVENT_INDEX: u64 = 1 << 29;
/// `VIRTIO_F_VERSION_1`: drivers of before 1.0 are not served.
const VERSION_1: u64 = 1 << 32;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// The registers of virtio 1.0 and later.
const VERSION: u32 = 2;
/// Nobody has given Wythe a number; drivers ignore it.
const VENDOR: u32 = 0;

const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;
const NEEDS_RESET: u32 = 64;
/// All that a driver may set: `ACKNOWLEDGE`, `DRIVER`, `DRIVER_OK`, `FEATURES_OK`, `FAILED`.
const DRIVERS: u32 = 0x8f;

/// What a device offers; it never changes.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) kind: Kind,
    pub(super) queues: Vec<u16>,
    features: u64,
}

impl Offer {
    pub(super) fn of(device: &impl Device) -> Offer {
        Offer {
            kind: device.kind(),
            queues: device.queue_sizes().to_vec(),
            features: device.features() | VERSION_1 | EVENT_INDEX | INDIRECT,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Magic,
    Version,
    DeviceId,
    VendorId,
    DeviceFeatures,
    DeviceFeaturesSelect,
    DriverFeatures,
    DriverFeaturesSelect,
    QueueSelect,
    QueueSizeMax,
    QueueSize,
    QueueReady,
    QueueNotify,
    InterruptStatus,
    InterruptAck,
    Status,
    QueueAddress(Part, Half),
    SharedMemory,
    Generation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Descriptors,
    Available,
    Used,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Low,
    High,
}

impl Register {
    pub(super) fn at(offset: u64) -> Option<Register> {
        Some(match offset {
            0x00 => Register::Magic,
            0x04 => Register::Version,
            0x08 => Register::DeviceId,
            0x0c => Register::VendorId,
            0x10 => Register::DeviceFeatures,
            0x14 => Register::DeviceFeaturesSelect,
            0x20 => Register::DriverFeatures,
            0x24 => Register::DriverFeaturesSelect,
            0x30 => Register::QueueSelect,
            0x34 => Register::QueueSizeMax,
            0x38 => Register::QueueSize,
            0x44 => Register::QueueReady,
            0x50 => Register::QueueNotify,
            0x60 => Register::InterruptStatus,
            0x64 => Register::InterruptAck,
            0x70 => Register::Status,
            0x80 => Register::QueueAddress(Part::Descriptors, Half::Low),
            0x84 => Register::QueueAddress(Part::Descriptors, Half::High),
            0x90 => Register::QueueAddress(Part::Available, Half::Low),
            0x94 => Register::QueueAddress(Part::Available, Half::High),
            0xa0 => Register::QueueAddress(Part::Used, Half::Low),
            0xa4 => Register::QueueAddress(Part::Used, Half::High),
            0xb0 | 0xb4 | 0xb8 | 0xbc => Register::SharedMemory,
            0xfc => Register::Generation,
            _ => return None,
        })
    }
}

/// What a write means to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The driver is gone.
    Reset,
    /// The driver is ready: the queues that it has set up become the device's.
    Activate,
    /// A queue was set up while the device was already working.
    QueueReady(usize),
    /// A queue was taken away while the device was working.
    QueueGone(usize),
}

/// What the driver has said. The selecting registers pick what others show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registers {
    status: u32,
    device_select: u32,
    driver_select: u32,
    queue_select: u32,
    features: u64,
    queues: Vec<Setting>,
}

/// What the driver has said of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Setting {
    layout: Layout,
    ready: bool,
}

impl Registers {
    pub(super) fn new(offer: &Offer) -> Registers {
        let setting = |max: &u16| Setting {
            layout: Layout { size: *max, ..Layout::default() },
            ready: false,
        };
        Registers {
            status: 0,
            device_select: 0,
            driver_select: 0,
            queue_select: 0,
            features: 0,
            queues: offer.queues.iter().map(setting).collect(),
        }
    }

    /// Saved registers, if they can be those of this device.
    pub(super) fn checked(self, offer: &Offer) -> Result<Registers, RestoreError> {
        let strange = self.features & !offer.features;
        if self.status & FEATURES_OK != 0 && strange != 0 {
            return Err(RestoreError::Another(format!("features {strange:#x} are not offered")));
        }
        if self.queues.len() != offer.queues.len() {
            return Err(RestoreError::Another(format!("{} queues", self.queues.len())));
        }
        Ok(self)
    }

    pub(super) fn features(&self) -> u64 {
        self.features
    }

    pub(super) fn ring_features(&self) -> RingFeatures {
        RingFeatures {
            event_index: self.features & EVENT_INDEX != 0,
            indirect: self.features & INDIRECT != 0,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.status & DRIVER_OK != 0
    }

    /// Where a queue is, if the driver says that it is ready.
    pub(super) fn layout(&self, index: usize) -> Option<Layout> {
        self.queues.get(index).filter(|queue| queue.ready).map(|queue| queue.layout)
    }

    fn selected(&self) -> Option<&Setting> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    pub(super) fn read(&self, register: Register, offer: &Offer, pending: Pending) -> u32 {
        let half = |features: u64, select: u32| match select {
            0 => low(features),
            1 => low(features >> 32),
            _ => 0,
        };
        match register {
            Register::Magic => MAGIC,
            Register::Version => VERSION,
            Register::DeviceId => offer.kind as u32,
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => half(offer.features, self.device_select),
            Register::QueueSizeMax => {
                let index = usize::try_from(self.queue_select).unwrap_or(usize::MAX);
                offer.queues.get(index).copied().unwrap_or_default().into()
            }
            Register::QueueReady => self.selected().is_some_and(|queue| queue.ready).into(),
            Register::InterruptStatus => pending.status,
            Register::Status if pending.needs_reset => self.status | NEEDS_RESET,
            Register::Status => self.status,
            // No region of shared memory: a length of all ones.
            Register::SharedMemory => u32::MAX,
            Register::Generation => pending.generation,
            Register::DeviceFeaturesSelect
            | Register::DriverFeatures
            | Register::DriverFeaturesSelect
            | Register::QueueSelect
            | Register::QueueSize
            | Register::QueueNotify
            | Register::InterruptAck
            | Register::QueueAddress(..) => 0,
        }
    }

    pub(super) fn write(&mut self, to: Register, value: u32, offer: &Offer) -> Option<Change> {
        match to {
            Register::DeviceFeaturesSelect => self.device_select = value,
            Register::DriverFeaturesSelect => self.driver_select = value,
            Register::QueueSelect => self.queue_select = value,
            Register::DriverFeatures if self.status & FEATURES_OK == 0 => {
                match self.driver_select {
                    0 => self.features = self.features >> 32 << 32 | u64::from(value),
                    1 => self.features = u64::from(low(self.features)) | u64::from(value) << 32,
                    _ => {}
                }
            }
            Register::QueueSize | Register::QueueAddress(..) => self.set_queue(to, value),
            Register::QueueReady => return self.set_ready(value == 1),
            Register::Status => return self.set_status(value, offer),
            Register::DriverFeatures
            | Register::QueueNotify
            | Register::InterruptAck
            | Register::Magic
            | Register::Version
            | Register::DeviceId
            | Register::VendorId
            | Register::DeviceFeatures
            | Register::QueueSizeMax
            | Register::InterruptStatus
            | Register::SharedMemory
            | Register::Generation => {}
        }
        None
    }

    /// Where the selected queue is; not while it is in use.
    fn set_queue(&mut self, to: Register, value: u32) {
        let index = usize::try_from(self.queue_select).unwrap_or(usize::MAX);
        let Some(queue) = self.queues.get_mut(index).filter(|queue| !queue.ready) else { return };
        let Register::QueueAddress(part, half) = to else {
            // A size that does not fit is as wrong as zero.
            queue.layout.size = u16::try_from(value).unwrap_or(0);
            return;
        };
        let address = match part {
            Part::Descriptors => &mut queue.layout.descriptors,
            Part::Available => &mut queue.layout.available,
            Part::Used => &mut queue.layout.used,
        };
        *address = match half {
            Half::Low => *address >> 32 << 32 | u64::from(value),
            Half::High => u64::from(low(*address)) | u64::from(value) << 32,
        };
    }

    fn set_ready(&mut self, ready: bool) -> Option<Change> {
        let index = usize::try_from(self.queue_select).ok()?;
        let queue = self.queues.get_mut(index)?;
        let before = std::mem::replace(&mut queue.ready, ready);
        match (before, ready) {
            (false, true) if self.is_active() => Some(Change::QueueReady(index)),
            (true, false) if self.is_active() => Some(Change::QueueGone(index)),
            _ => None,
        }
    }

    fn set_status(&mut self, value: u32, offer: &Offer) -> Option<Change> {
        if value == 0 {
            *self = Registers::new(offer);
            return Some(Change::Reset);
        }
        let was_active = self.is_active();
        // Bits are only ever added.
        let mut status = self.status | value & DRIVERS;
        let acceptable = self.features & !offer.features == 0 && self.features & VERSION_1 != 0;
        if !acceptable {
            status &= !FEATURES_OK;
        }
        if status & FEATURES_OK == 0 {
            status &= !DRIVER_OK;
        }
        self.status = status;
        (!was_active && self.is_active()).then_some(Change::Activate)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
fn low(value: u64) -> u32 {
    value as u32
}
