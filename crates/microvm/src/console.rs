//! What a machine says on its console: the last of it is kept, for whoever asks why it ended.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{io::AsyncReadExt as _, net::unix::pipe};

/// How much is kept, in bytes.
const KEPT: usize = 8 << 10;

/// How many lines are told.
const LINES: usize = 6;

/// A console that is listened to until the machine has gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console(Arc<Mutex<VecDeque<u8>>>);

impl Console {
    /// Listens; what the machine says is written to the descriptor.
    pub(crate) fn listen(&self) -> io::Result<OwnedFd> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut from = pipe::Receiver::from_owned_fd(from)?;
        let kept = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut piece = vec![0; KEPT];
            while let Ok(bytes @ 1..) = from.read(&mut piece).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&piece[..bytes]);
                let over = kept.len().saturating_sub(KEPT);
                kept.drain(..over);
            }
        });
        Ok(to)
    }

    /// Its last lines, on one.
    pub(crate) fn last_words(&self) -> Option<String> {
        let kept: Vec<u8> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        last_lines(&String::from_utf8_lossy(&kept))
    }
}

fn last_lines(text: &str) -> Option<String> {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.map(|line| line.chars().map(clean).collect()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    (!last.is_empty()).then(|| last.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told() {
        assert_eq!(last_lines("\r\n \n"), None);
        assert_eq!(last_lines("one\r\n\x1b[1mtwo\n").as_deref(), Some("one |  [1mtwo"));
        let many: String = (0..9).map(|n| format!("{n}\n")).collect();
        assert_eq!(last_lines(&many).as_deref(), Some("3 | 4 | 5 | 6 | 7 | 8"));
    }

    #[tokio::test]
    async fn no_more_is_kept_than_there_is_room_for() {
        let console = Console::default();
        let to = console.listen().unwrap();
        for _ in 0..40 {
            while rustix::io::write(&to, &[b'x'; 1000]).is_err() {
                tokio::task::yield_now().await;
            }
        }
        rustix::io::write(&to, b"\nend\n").unwrap();
        drop(to);
        while !console.last_words().is_some_and(|words| words.ends_with("| end")) {
            tokio::task::yield_now().await;
        }
        assert_eq!(console.0.lock().unwrap().len(), KEPT);
    }
}
