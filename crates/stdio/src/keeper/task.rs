//! The task that pumps. One future, polled as a whole: it goes round all descriptors until none
//! of them makes progress.

use std::{
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    sync::Arc,
    task::{Context, Poll},
};

use base::clock::Timestamp;
use tokio::{
    io::Interest,
    sync::{mpsc, oneshot},
};
use workload::Attachment;

use super::{
    ATTACHED_MAX, ChildStreams, KeeperError, StreamSpec,
    attached::{Attached, Gone, Received},
    pipe::{Input, Output, empty_input, input_pipe, output_pipe, set_nonblocking},
    sink::Sink,
};
use crate::{descriptor::watch, log::Stream};

/// Bytes read from the process at once: what a pipe holds by default.
const OUTPUT_BYTES: usize = 64 << 10;

/// Bytes of input taken at once.
const INPUT_BYTES: usize = 8 << 10;

type Answer<T = ()> = oneshot::Sender<Result<T, KeeperError>>;

/// What the task can be asked.
#[derive(Debug)]
pub(super) enum Command {
    Terminal { master: OwnedFd, answer: Answer },
    Attach { attachment: Attachment, answer: Answer<Option<Timestamp>> },
    Finish { answer: Answer },
}

#[derive(Debug)]
pub(super) struct Task {
    commands: mpsc::Receiver<Command>,
    /// Whether output is framed for those attached.
    framed: bool,
    /// Whether input ends with its writer.
    stdin_once: bool,
    outputs: Vec<Output>,
    input: Input,
    attached: Vec<Attached>,
    /// Whether anybody ever was who gives input.
    had_input: bool,
    log: Option<Sink>,
    /// The time of the last record, or of a point between records.
    last: Timestamp,
    /// Room for output. Memory that was never written to is not there, and most containers are
    /// silent most of the time.
    buffer: Vec<u8>,
    finished: bool,
}

impl Task {
    pub(super) fn open(
        spec: &StreamSpec,
        log: Option<Sink>,
        commands: mpsc::Receiver<Command>,
    ) -> io::Result<(Task, ChildStreams)> {
        let mut task = Task {
            commands,
            framed: !spec.terminal,
            stdin_once: spec.stdin_once && !spec.terminal,
            outputs: Vec::new(),
            input: Input::nowhere(),
            attached: Vec::new(),
            had_input: false,
            log,
            last: Timestamp(0),
            buffer: Vec::with_capacity(OUTPUT_BYTES),
            finished: false,
        };
        if spec.terminal {
            if spec.stdin {
                task.input = Input::awaited();
            }
            return Ok((task, ChildStreams::Terminal));
        }
        let mut output = |stream| -> io::Result<OwnedFd> {
            let (ours, theirs) = output_pipe()?;
            let ours = watch(ours, Interest::READABLE)?;
            task.outputs.push(Output::new(stream, Arc::new(ours)));
            Ok(theirs)
        };
        let (stdout, stderr) = (output(Stream::Output)?, output(Stream::Error)?);
        let stdin = if spec.stdin {
            let (ours, theirs) = input_pipe()?;
            task.input = Input::to(Arc::new(watch(ours, Interest::WRITABLE)?));
            theirs
        } else {
            empty_input()?
        };
        Ok((task, ChildStreams::Pipes { stdin, stdout, stderr }))
    }

    /// Runs until every [`super::Keeper`] is gone.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut progress = match self.commands.poll_recv(cx) {
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some(command)) => {
                    self.execute(command);
                    true
                }
                Poll::Pending => false,
            };
            progress |= self.poll_attached(cx);
            progress |= self.input.poll_write(cx);
            progress |= self.poll_outputs(cx);
            progress |= self.log.as_mut().is_some_and(|log| log.poll_send(cx));
            if !progress {
                return Poll::Pending;
            }
        }
    }

    /// Who asked may have gone; then nobody hears the answer.
    fn execute(&mut self, command: Command) {
        match command {
            Command::Terminal { master, answer } => {
                let _ = answer.send(self.terminal(master));
            }
            Command::Attach { attachment, answer } => {
                let _ = answer.send(self.attach(attachment));
            }
            Command::Finish { answer } => {
                self.finish();
                let _ = answer.send(Ok(()));
            }
        }
    }

    fn terminal(&mut self, master: OwnedFd) -> Result<(), KeeperError> {
        if self.finished {
            return Err(KeeperError::Ended);
        }
        let master = set_nonblocking(&master)
            .and_then(|()| watch(master, Interest::READABLE | Interest::WRITABLE))
            .map_err(|source| KeeperError::Io { doing: "keep a terminal", source })?;
        let master = Arc::new(master);
        self.outputs.push(Output::new(Stream::Output, Arc::clone(&master)));
        self.input.arrived(master);
        Ok(())
    }

    fn attach(&mut self, attachment: Attachment) -> Result<Option<Timestamp>, KeeperError> {
        if self.finished {
            return Err(KeeperError::Ended);
        }
        // A quiet process gives no occasion to notice who has gone.
        if self.attached.len() >= ATTACHED_MAX {
            self.attached.retain(|attached| !attached.gone());
        }
        if self.attached.len() >= ATTACHED_MAX {
            return Err(KeeperError::Full);
        }
        let (input, mark) = (attachment.input, attachment.mark);
        self.attached.push(Attached::new(attachment, !self.had_input)?);
        self.had_input |= input;
        Ok(mark.then(|| self.mark()))
    }

    /// A point of the log between what was said and what will be.
    fn mark(&mut self) -> Timestamp {
        let at = self.tick();
        if let Some(log) = &mut self.log {
            log.write_partial(at);
        }
        at
    }

    /// The time, later than whenever it was last asked for: the order of records is that of their
    /// times, whatever happens to the clock.
    fn tick(&mut self) -> Timestamp {
        self.last = Timestamp::now().max(Timestamp(self.last.0.saturating_add(1)));
        self.last
    }

    /// Sends to and receives from everybody attached.
    fn poll_attached(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        let mut still = Vec::with_capacity(self.attached.len());
        for mut attached in std::mem::take(&mut self.attached) {
            match attached.poll_send(cx) {
                Ok(sent) => progress |= sent,
                Err(gone) => {
                    self.left(&attached, gone);
                    progress = true;
                    continue;
                }
            }
            if self.finished && attached.is_through() {
                attached.shut();
                continue;
            }
            match self.poll_input(&mut attached, cx) {
                Poll::Pending => {}
                Poll::Ready(stays) => {
                    progress = true;
                    if !stays {
                        continue;
                    }
                }
            }
            still.push(attached);
        }
        self.attached = still;
        progress
    }

    /// Takes input from one who is attached; whether they stay.
    fn poll_input(&mut self, attached: &mut Attached, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.input.has_room() {
            return Poll::Pending;
        }
        let mut buffer = [0; INPUT_BYTES];
        attached.poll_receive(cx, &mut buffer).map(|received| match received {
            Received::Bytes(_) if !attached.gives_input => true,
            Received::Bytes(count) => {
                self.input.push(buffer.get(..count).unwrap_or_default());
                true
            }
            Received::End => {
                if self.stdin_once && attached.gives_input {
                    self.input.end();
                }
                true
            }
            Received::Gone(gone) => {
                self.left(attached, gone);
                false
            }
        })
    }

    /// One who was attached has gone.
    fn left(&mut self, attached: &Attached, gone: Gone) {
        if self.stdin_once && attached.owns_input && gone == Gone::Left {
            self.input.end();
        }
    }

    /// Reads from the process, unless somebody attached holds it back.
    fn poll_outputs(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        let mut index = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(output) = self.outputs.get(index) {
            if !self.attached.iter().all(Attached::has_room) {
                break;
            }
            let stream = output.stream;
            match output.poll_read(cx, &mut buffer) {
                Poll::Pending => index += 1,
                Poll::Ready(Ok(1..)) => {
                    self.deliver(stream, &buffer);
                    progress = true;
                    index += 1;
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.outputs.remove(index);
                    progress = true;
                }
            }
        }
        self.buffer = buffer;
        progress
    }

    /// Hands a piece of output to the log and to everybody attached.
    fn deliver(&mut self, stream: Stream, bytes: &[u8]) {
        if self.finished {
            return;
        }
        let at = self.tick();
        if let Some(log) = &mut self.log {
            log.append(at, stream, bytes);
        }
        let header = frame_header(stream, bytes.len());
        let header: &[u8] = if self.framed { &header } else { &[] };
        let mut index = 0;
        while let Some(attached) = self.attached.get_mut(index) {
            match attached.push(header, bytes) {
                Ok(()) => index += 1,
                Err(gone) => {
                    let attached = self.attached.remove(index);
                    self.left(&attached, gone);
                }
            }
        }
    }

    /// Takes what the process has written and says good-bye to everybody.
    ///
    /// Of each stream at most as much is taken as it can hold: all that was written before the
    /// process ended is within it, however busily others go on writing.
    fn finish(&mut self) {
        if self.finished {
            return;
        }
        let outputs = std::mem::take(&mut self.outputs);
        let mut buffer = std::mem::take(&mut self.buffer);
        for output in &outputs {
            let mut left = output.capacity();
            while left > 0 {
                let count = output.read_now(&mut buffer);
                if count == 0 {
                    break;
                }
                self.deliver(output.stream, &buffer);
                left = left.saturating_sub(count);
            }
        }
        self.outputs = outputs;
        self.buffer = buffer;
        self.finished = true;
        self.input = Input::nowhere();
        let at = self.tick();
        if let Some(log) = &mut self.log {
            log.finish(at);
        }
        self.log = self.log.take().filter(Sink::goes_on);
        let attached = std::mem::take(&mut self.attached);
        self.attached = attached.into_iter().filter_map(Attached::close).collect();
    }
}

/// The header of a frame in Docker's multiplexed format.
///
/// Source: Docker Engine API v1.47, `POST /containers/{id}/attach`, "Stream format".
fn frame_header(stream: Stream, bytes: usize) -> [u8; 8] {
    let [a, b, c, d] = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    [stream.number(), 0, 0, 0, a, b, c, d]
}
