//! The board as threads share it: after every access its lines are told, and whoever serves the
//! console is woken.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base::clock::Timestamp;
use hv::Vm;
use virtio::Line as _;

use super::{
    control::Control,
    lines::{Lines, Share},
};
use crate::legacy::{Board, Effect, Now};

#[derive(Debug)]
struct Inner {
    board: Board,
    raised: [bool; 3],
    /// Whether the console looks at the wire by itself soon, so that no byte has to wake it.
    attended: bool,
    /// Whether input waits for room.
    waiting: bool,
}

/// The board, its lines and its clock.
#[derive(Debug)]
pub(super) struct Ports {
    inner: Mutex<Inner>,
    lines: [Share; 3],
    vm: Arc<dyn Vm>,
    control: Arc<Control>,
}

impl Ports {
    pub(super) fn new(
        board: Board,
        lines: &Arc<Lines>,
        vm: Arc<dyn Vm>,
        control: Arc<Control>,
    ) -> Ports {
        let lines = board.lines().map(|(line, _)| Share { lines: lines.clone(), line });
        let inner = Inner { board, raised: [false; 3], attended: true, waiting: false };
        let ports = Ports { inner: Mutex::new(inner), lines, vm, control };
        ports.board(|_| ());
        ports
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the board, and what follows from it.
    pub(super) fn board<R>(&self, act: impl FnOnce(&mut Board) -> R) -> R {
        let mut inner = self.inner();
        let done = act(&mut inner.board);
        let now = inner.board.lines().map(|(_, raised)| raised);
        for ((line, before), now) in self.lines.iter().zip(&mut inner.raised).zip(now) {
            if *before != now {
                *before = now;
                line.set(now);
            }
        }
        let output = !inner.attended && !inner.board.serial.wire().is_empty();
        let input = inner.waiting && inner.board.serial.room() > 0;
        if output || input {
            inner.attended |= output;
            inner.waiting &= !input;
            self.control.wake();
        }
        done
    }

    /// The time, if anybody at these ports tells it.
    fn now(&self, port: u16, bytes: usize) -> Now {
        if !Board::tells_time(port, bytes) {
            return Now { unix: 0, machine: 0 };
        }
        // A clock that cannot be read stands still; the next run says why.
        let machine = self.vm.clock().map_or(0, |clock| clock.nanoseconds);
        Now { unix: Timestamp::now().seconds(), machine }
    }

    pub(super) fn read(&self, port: u16, data: &mut [u8]) {
        let now = self.now(port, data.len());
        self.board(|board| board.read(port, data, now));
    }

    pub(super) fn write(&self, port: u16, data: &[u8]) -> Option<Effect> {
        self.board(|board| board.write(port, data))
    }

    /// What is on the wire. From now on the console looks again by itself, until it says
    /// otherwise.
    pub(super) fn wire(&self) -> VecDeque<u8> {
        let mut inner = self.inner();
        inner.attended = true;
        inner.board.serial.wire().clone()
    }

    /// The console will not look by itself; gives whether there is something to see first.
    pub(super) fn unattended(&self) -> bool {
        let mut inner = self.inner();
        inner.attended = !inner.board.serial.wire().is_empty();
        inner.attended
    }

    /// How many bytes of input there is room for. If there is none, the devices' thread is woken
    /// when there is.
    pub(super) fn room(&self) -> usize {
        let mut inner = self.inner();
        let room = inner.board.serial.room();
        inner.waiting = room == 0;
        room
    }
}
