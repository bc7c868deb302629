//! What goes to the daemon while a session runs: sizes of our terminal, and our signals.

use api::Client;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use workload::Signal;

use super::terminal;
use crate::connect::Endpoint;

/// Signals that are passed on: HUP, INT, QUIT, USR1, USR2, ALRM, TERM. What is not here acts on us
/// as ever.
const PASSED: [u8; 7] = [1, INT, 3, 10, 12, 14, TERM];
const INT: u8 = 2;
const TERM: u8 = 15;

/// So many interrupts in a session mean that we are to end, whatever the container does.
const INTERRUPTS: u32 = 3;

/// Whose session it is.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A container.
    Container(String),
    /// An exec.
    Exec(String),
}

/// Talks to the daemon on a connection of its own, made when it is first needed.
#[derive(Debug)]
pub(crate) struct Control {
    endpoint: Endpoint,
    target: Target,
    client: Option<Client>,
}

impl Control {
    /// Control over this target's session.
    pub(crate) fn new(endpoint: &Endpoint, target: Target) -> Control {
        Control { endpoint: endpoint.clone(), target, client: None }
    }

    /// Another one over the same target.
    pub(super) fn again(&self) -> Control {
        Control::new(&self.endpoint, self.target.clone())
    }

    /// Tells that we have left the target to itself. A daemon that is away need not know.
    pub(super) async fn detached(mut self) {
        let target = self.target.clone();
        let Some(client) = self.client().await else { return };
        let told = match &target {
            Target::Container(who) => client.detached(who).await,
            Target::Exec(exec) => client.exec_detached(exec).await,
        };
        self.forget_broken(told);
    }

    /// Passes on sizes and signals for as long as it is polled. Ends with the signal that ends us.
    pub(super) async fn serve(mut self, terminal: bool, signals: bool) -> u8 {
        let mut sizes = if terminal { signal(SignalKind::window_change()).ok() } else { None };
        // Keys of a raw terminal are no signals: those that come are meant for us alone, and are
        // caught so that the terminal is put back.
        let passed = signals && !terminal;
        let caught = passed || terminal;
        let mut listeners: Vec<(u8, Listener)> = Vec::new();
        for number in PASSED.into_iter().filter(|_| caught) {
            if let Ok(listener) = signal(SignalKind::from_raw(number.into())) {
                listeners.push((number, listener));
            }
        }
        if terminal {
            self.resize().await;
        }
        let mut interrupts = 0;
        loop {
            let number = tokio::select! {
                () = next_size(&mut sizes) => { self.resize().await; continue; }
                number = next_signal(&mut listeners) => number,
            };
            if !passed {
                return number;
            }
            let polite = [INT, TERM].contains(&number);
            interrupts += u32::from(polite);
            if interrupts >= INTERRUPTS {
                return number;
            }
            self.signal(number).await;
        }
    }

    async fn client(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            self.client = self.endpoint.connect_running().await.ok();
        }
        self.client.as_mut()
    }

    /// Sizes and signals that do not arrive change nothing about the session: a daemon that is
    /// away gets the next one.
    async fn resize(&mut self) {
        let Some(size) = terminal::size() else { return };
        let target = self.target.clone();
        let Some(client) = self.client().await else { return };
        let sent = match &target {
            Target::Container(who) => client.resize(who, size).await,
            Target::Exec(exec) => client.exec_resize(exec, size).await,
        };
        self.forget_broken(sent);
    }

    async fn signal(&mut self, number: u8) {
        let Target::Container(who) = self.target.clone() else { return };
        let Some(signal) = Signal::from_number(number) else { return };
        let Some(client) = self.client().await else { return };
        let sent = client.kill(&who, signal).await;
        self.forget_broken(sent);
    }

    fn forget_broken(&mut self, sent: Result<(), api::ClientError>) {
        if sent.is_err_and(|error| !matches!(error, api::ClientError::Refused(_))) {
            self.client = None;
        }
    }
}

async fn next_size(sizes: &mut Option<Listener>) {
    match sizes {
        Some(sizes) => {
            sizes.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The first signal that comes.
async fn next_signal(listeners: &mut [(u8, Listener)]) -> u8 {
    std::future::poll_fn(|context| {
        for (number, listener) in listeners.iter_mut() {
            if listener.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*number);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
