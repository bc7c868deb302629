//! Debian's `docker-registry` on an instance's network, and a relay before it that makes trouble.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{Instance, wait_until};

/// A registry on the instance's network; gone when this is dropped.
#[derive(Debug)]
pub struct Registry(Child);

impl Registry {
    /// A registry for everybody, or nothing where it is not installed.
    pub fn start(instance: &Instance, port: u16) -> Option<Registry> {
        Registry::start_with(instance, (Ipv4Addr::LOCALHOST, port).into(), "", "")
    }

    /// A registry with more lines in its configuration: some below `http`, some at the end.
    pub fn start_with(
        instance: &Instance,
        at: SocketAddr,
        http: &str,
        further: &str,
    ) -> Option<Registry> {
        let program = testkit::need::tool("docker-registry")?;
        let root = instance.path(&format!("registry-{}", at.port()));
        let config = root.with_extension("yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: '{at}'\n{http}{further}",
            root.display()
        );
        fs::write(&config, text).expect("the directory is ours");
        let child = instance.on_network(|| {
            let mut command = Command::new(program);
            command.arg("serve").arg(&config).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs")
        });
        wait_until("the registry answers", || {
            instance.on_network(|| TcpStream::connect(at).is_ok())
        });
        Some(Registry(child))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a relay does to those who go through it. Bytes are counted over all connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// So many times more, a connection ends when it has carried so many bytes of answers.
    pub cuts_down: Option<(usize, u64)>,
    /// The same for bytes of requests.
    pub cuts_up: Option<(usize, u64)>,
    /// When so many bytes of answers have gone through, no more do of answers that are longer than
    /// a megabyte.
    pub holds_after: Option<u64>,
    /// When so many bytes of answers have gone through, the next one is another.
    pub spoils_after: Option<u64>,
}

/// Carries bytes to a server and back, on an instance's network.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    trouble: Trouble,
    down: u64,
    requests: Vec<String>,
}

impl Relay {
    /// A relay at a port of the loopback to another one.
    pub fn start(instance: &Instance, port: u16, to: u16) -> Relay {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        instance.on_network(|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else {
                        continue;
                    };
                    serving.carry(client, server);
                }
            })
        });
        Relay { shared }
    }

    /// From here on it makes this trouble.
    pub fn make(&self, trouble: Trouble) {
        let mut state = self.shared.lock();
        (state.trouble, state.down) = (trouble, 0);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// How many bytes of answers have gone through since then.
    pub fn bytes_down(&self) -> u64 {
        self.shared.lock().down
    }

    /// How many of these cuts are still to come: of answers, of requests.
    pub fn cuts_left(&self) -> (usize, usize) {
        let trouble = self.shared.lock().trouble;
        let left = |cuts: Option<(usize, u64)>| cuts.map_or(0, |(left, _)| left);
        (left(trouble.cuts_down), left(trouble.cuts_up))
    }

    /// The heads of all requests, which came in one piece as clients send them.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().requests.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Nobody is held for ever.
        self.make(Trouble::default());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Two threads for each connection, which end with it.
    fn carry(self: &Arc<Shared>, client: TcpStream, server: TcpStream) {
        // Bytes of the present answer.
        let answer = Arc::new(AtomicU64::new(0));
        for (down, mut from, mut to) in [
            (false, client.try_clone().expect("it can"), server.try_clone().expect("it can")),
            (true, server, client),
        ] {
            let (shared, answer) = (Arc::clone(self), Arc::clone(&answer));
            thread::spawn(move || {
                let (mut part, mut carried) = (vec![0; 64 << 10], 0);
                while let Ok(length @ 1..) = from.read(&mut part) {
                    carried += length as u64;
                    let part = &mut part[..length];
                    let may = if down {
                        let long = answer.fetch_add(length as u64, Ordering::Relaxed) > 1 << 20;
                        shared.answered(part, carried, long)
                    } else {
                        answer.store(0, Ordering::Relaxed);
                        shared.asked(part, carried)
                    };
                    if !may || to.write_all(part).is_err() {
                        drop(from.shutdown(Shutdown::Both));
                        break;
                    }
                }
                drop(to.shutdown(Shutdown::Both));
            });
        }
    }

    /// Bytes of an answer. Whether the connection stays.
    fn answered(&self, part: &mut [u8], carried: u64, long: bool) -> bool {
        let mut state = self.lock();
        state.down += part.len() as u64;
        if state.trouble.spoils_after.is_some_and(|after| state.down > after) {
            state.trouble.spoils_after = None;
            let last = part.len() - 1;
            part[last] ^= 1;
        }
        let held = |state: &mut State| {
            long && state.trouble.holds_after.is_some_and(|after| state.down > after)
        };
        let mut state =
            self.changed.wait_while(state, held).unwrap_or_else(PoisonError::into_inner);
        !cuts(&mut state.trouble.cuts_down, carried)
    }

    /// Bytes of a request. Whether the connection stays.
    fn asked(&self, part: &[u8], carried: u64) -> bool {
        let mut state = self.lock();
        let text = String::from_utf8_lossy(part.get(..2048.min(part.len())).unwrap_or_default());
        if let Some((head, _)) = text.split_once("\r\n\r\n")
            && head.lines().next().is_some_and(|line| line.ends_with(" HTTP/1.1"))
        {
            state.requests.push(head.to_owned());
        }
        !cuts(&mut state.trouble.cuts_up, carried)
    }
}

fn cuts(cuts: &mut Option<(usize, u64)>, carried: u64) -> bool {
    match cuts {
        Some((left @ 1.., after)) if carried > *after => {
            *left -= 1;
            true
        }
        Some(_) | None => false,
    }
}
