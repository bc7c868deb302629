//! The two PICs (8259A) of a PC: the second one's output is line 2 of the first.
//!
//! A request that rose stays until it is acknowledged, though the line may have fallen meanwhile:
//! devices that pulse their line lose nothing.
//!
//! Source: Intel 8259A data sheet; 82371SB data sheet (ELCR), 2.5.

use hv::state::PicState;

/// The line at which the second hangs.
const CASCADE: u8 = 2;

/// Which lines of each can be made level-triggered.
const ELCR_BITS: [u8; 2] = [0xf8, 0xde];

/// Both.
#[derive(Clone, Debug)]
pub(super) struct Pics([Pic; 2]);

#[derive(Clone, Debug)]
struct Pic {
    state: PicState,
    elcr_bits: u8,
    /// Lines of other chips here: only the first has one.
    cascade: u8,
}

impl Pics {
    /// All masked, as firmware leaves them (there is none here).
    pub(super) fn new() -> Pics {
        let pic = |n: usize| Pic {
            state: PicState { imr: 0xff, ..PicState::default() },
            elcr_bits: ELCR_BITS[n],
            cascade: if n == 0 { 1 << CASCADE } else { 0 },
        };
        Pics([pic(0), pic(1)])
    }

    pub(super) fn state(&self) -> [PicState; 2] {
        [self.0[0].state, self.0[1].state]
    }

    pub(super) fn restore(&mut self, states: &[PicState; 2]) {
        for (pic, state) in self.0.iter_mut().zip(states) {
            pic.state = *state;
            pic.state.elcr &= pic.elcr_bits;
            pic.state.priority_add &= 7;
            pic.state.init &= 3;
        }
        self.connect();
    }

    /// Raises or lowers one of the 16 lines; line 2 is nobody's.
    pub(super) fn line(&mut self, line: u8, raised: bool) {
        match line {
            CASCADE => {}
            0..=7 => self.0[0].line(line, raised),
            8..=15 => self.0[1].line(line - 8, raised),
            _ => {}
        }
        self.connect();
    }

    /// The second's output at the first's input. That is a level, whatever the first is told of
    /// edges: what it shows is always what the second has.
    fn connect(&mut self) {
        let raised = self.0[1].highest().is_some();
        let irr = &mut self.0[0].state.irr;
        if raised { *irr |= 1 << CASCADE } else { *irr &= !(1 << CASCADE) }
    }

    /// Whether they want to interrupt.
    pub(super) fn output(&self) -> bool {
        self.0[0].highest().is_some()
    }

    /// The processor acknowledges; the vector. A request that has gone away gives that of line 7.
    pub(super) fn acknowledge(&mut self) -> u8 {
        let [first, second] = &mut self.0;
        let vector = match first.take() {
            Some(CASCADE) => second.state.irq_base | second.take().unwrap_or(7),
            line => first.state.irq_base | line.unwrap_or(7),
        };
        self.connect();
        vector
    }

    /// Reads a port, if it is one of theirs.
    pub(super) fn read(&mut self, port: u16) -> Option<u8> {
        let value = match port {
            0x20 | 0xa0 => self.chip(port).read_command(),
            0x21 | 0xa1 => self.chip(port).read_mask(),
            0x4d0 | 0x4d1 => self.0[usize::from(port & 1)].state.elcr,
            _ => return None,
        };
        self.connect();
        Some(value)
    }

    /// Writes a port; whether it is one of theirs.
    pub(super) fn write(&mut self, port: u16, value: u8) -> bool {
        match port {
            0x20 | 0xa0 => self.chip(port).command(value),
            0x21 | 0xa1 => self.chip(port).data(value),
            0x4d0 | 0x4d1 => {
                let pic = &mut self.0[usize::from(port & 1)];
                pic.state.elcr = value & pic.elcr_bits;
            }
            _ => return false,
        }
        self.connect();
        true
    }

    fn chip(&mut self, port: u16) -> &mut Pic {
        &mut self.0[usize::from(port >> 7 & 1)]
    }
}

impl Pic {
    fn line(&mut self, line: u8, raised: bool) {
        let (bit, state) = (1 << line, &mut self.state);
        let rises = raised && state.last_irr & bit == 0;
        let level = state.elcr & bit != 0;
        if rises || raised && level {
            state.irr |= bit;
        } else if level {
            state.irr &= !bit;
        }
        if raised { state.last_irr |= bit } else { state.last_irr &= !bit }
    }

    /// The place in the order of priorities, 0 the first, of the foremost of some lines; 8, if
    /// there is none.
    fn foremost(&self, lines: u8) -> u32 {
        lines.rotate_right(self.state.priority_add.into()).trailing_zeros()
    }

    fn line_at(&self, place: u32) -> u8 {
        (place.to_le_bytes()[0].wrapping_add(self.state.priority_add)) & 7
    }

    /// The line that is to be served before all that is in service.
    fn highest(&self) -> Option<u8> {
        let state = &self.state;
        let mut service = state.isr;
        if state.special_mask {
            service &= !state.imr;
        }
        if state.special_fully_nested {
            // Another line of the second may interrupt one of its own.
            service &= !self.cascade;
        }
        let place = self.foremost(state.irr & !state.imr);
        (place < self.foremost(service)).then(|| self.line_at(place))
    }

    fn take(&mut self) -> Option<u8> {
        let line = self.highest()?;
        let (bit, state) = (1 << line, &mut self.state);
        if !state.auto_eoi {
            state.isr |= bit;
        } else if state.rotate_on_auto_eoi {
            state.priority_add = (line + 1) & 7;
        }
        if state.elcr & bit == 0 {
            state.irr &= !bit;
        }
        Some(line)
    }

    fn read_command(&mut self) -> u8 {
        if self.state.poll {
            return self.answer_poll();
        }
        if self.state.read_isr { self.state.isr } else { self.state.irr }
    }

    fn read_mask(&mut self) -> u8 {
        if self.state.poll { self.answer_poll() } else { self.state.imr }
    }

    /// A poll acknowledges as the processor would.
    fn answer_poll(&mut self) -> u8 {
        self.state.poll = false;
        self.take().map_or(0, |line| line | 1 << 7)
    }

    fn command(&mut self, value: u8) {
        if value & 1 << 4 != 0 {
            self.initialize(value);
        } else if value & 1 << 3 != 0 {
            self.select(value);
        } else {
            self.end(value);
        }
    }

    /// ICW1. The second and third word always come; a fourth if bit 0 says so.
    fn initialize(&mut self, value: u8) {
        let PicState { elcr, irr, irq_base, .. } = self.state;
        self.state = PicState {
            elcr,
            // Requests by edge are forgotten: a line has to fall and rise anew.
            irr: irr & elcr,
            irq_base,
            init: 1,
            init4: value & 1 != 0,
            ..PicState::default()
        };
    }

    /// OCW3: what is read, polling, special mask mode.
    fn select(&mut self, value: u8) {
        self.state.poll |= value & 1 << 2 != 0;
        if value & 1 << 1 != 0 {
            self.state.read_isr = value & 1 != 0;
        }
        if value & 1 << 6 != 0 {
            self.state.special_mask = value & 1 << 5 != 0;
        }
    }

    /// OCW2: ends of interrupts, and rotation.
    fn end(&mut self, value: u8) {
        let (named, state) = (value & 7, self.state);
        let foremost = self.foremost(state.isr);
        match value >> 5 {
            rotate @ (0 | 4) => self.state.rotate_on_auto_eoi = rotate == 4,
            what @ (1 | 5) if foremost < 8 => {
                let line = self.line_at(foremost);
                self.finish(line, what == 5);
            }
            what @ (3 | 7) => self.finish(named, what == 7),
            6 => self.state.priority_add = (named + 1) & 7,
            _ => {}
        }
    }

    fn finish(&mut self, line: u8, rotates: bool) {
        self.state.isr &= !(1 << line);
        if rotates {
            self.state.priority_add = (line + 1) & 7;
        }
    }

    /// The words of initialisation in turn, else the mask (OCW1).
    fn data(&mut self, value: u8) {
        let state = &mut self.state;
        match state.init {
            0 => state.imr = value,
            1 => {
                state.irq_base = value & 0xf8;
                state.init = 2;
            }
            2 => state.init = if state.init4 { 3 } else { 0 },
            _ => {
                state.special_fully_nested = value & 1 << 4 != 0;
                state.auto_eoi = value & 1 << 1 != 0;
                state.init = 0;
            }
        }
    }
}
