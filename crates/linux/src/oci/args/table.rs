//! The commands and flags, which are runc's.

use super::{Flag, Syntax, Verb};

/// A flag that is there or not.
const fn switch(long: &'static str, short: Option<&'static str>, help: &'static str) -> Flag {
    Flag { long, short, value: None, help }
}

/// A flag with a value.
const fn option(
    long: &'static str,
    short: Option<&'static str>,
    value: &'static str,
    help: &'static str,
) -> Flag {
    Flag { long, short, value: Some(value), help }
}

const CONTAINER: &str = "<container-id>";

/// A command that takes a container and no flags.
const fn plain(name: &'static str, about: &'static str) -> Syntax {
    Syntax { name, operands: CONTAINER, about, flags: &[], count: (1, 1), in_order: false }
}

/// What stands before the command.
pub(crate) static GLOBAL: Syntax = Syntax {
    name: "oci",
    operands: "<command> [arguments]",
    about: "Run containers as the OCI runtime specification describes them",
    flags: &[
        option("root", None, "DIR", "where the state of containers is kept [/run/wythe-oci]"),
        option("log", None, "FILE", "also write errors to this file"),
        option("log-format", None, "FORMAT", "format of the log: text or json [text]"),
        switch("debug", None, "also log what is done"),
        switch("systemd-cgroup", None, "not supported"),
        option("rootless", None, "MODE", "true is not supported; false or auto"),
        switch("version", Some("v"), "print the version"),
    ],
    count: (0, usize::MAX),
    in_order: true,
};

const BUNDLE: Flag = option("bundle", Some("b"), "DIR", "directory with config.json [.]");
const CONSOLE: Flag =
    option("console-socket", None, "SOCKET", "Unix socket that receives the terminal's master");
const PID_FILE: Flag = option("pid-file", None, "FILE", "write the process id to this file");
const NO_PIVOT: Flag =
    switch("no-pivot", None, "change the root by chroot, for roots on a ramdisk");
const NO_KEYRING: Flag = switch("no-new-keyring", None, "keep the caller's session keyring");
const PRESERVE: Flag =
    option("preserve-fds", None, "N", "pass this many descriptors from 3 on to the container");
const FORMAT: Flag = option("format", Some("f"), "FORMAT", "table or json [table]");

/// Every command, in the order that help lists them.
pub(crate) static COMMANDS: &[(Verb, Syntax)] = &[
    (
        Verb::Create,
        Syntax {
            name: "create",
            operands: CONTAINER,
            about: "Create a container, whose command waits for start",
            flags: &[BUNDLE, CONSOLE, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE],
            count: (1, 1),
            in_order: false,
        },
    ),
    (Verb::Start, plain("start", "Start the command of a created container")),
    (
        Verb::Run,
        Syntax {
            name: "run",
            operands: CONTAINER,
            about: "Create a container, start it, wait for it and delete it",
            flags: &[
                BUNDLE,
                CONSOLE,
                switch("detach", Some("d"), "do not wait for the container"),
                switch("keep", None, "do not delete the container when it has ended"),
                PID_FILE,
                switch("no-subreaper", None, "do not reap orphans of the container"),
                NO_PIVOT,
                NO_KEYRING,
                PRESERVE,
            ],
            count: (1, 1),
            in_order: false,
        },
    ),
    (
        Verb::Exec,
        Syntax {
            name: "exec",
            operands: "<container-id> <command> [arguments] | -p FILE <container-id>",
            about: "Run a further process in a container",
            flags: &[
                CONSOLE,
                option("cwd", None, "DIR", "working directory in the container"),
                option("env", Some("e"), "NAME=VALUE", "set an environment variable"),
                switch("tty", Some("t"), "give it a terminal"),
                option("user", Some("u"), "UID[:GID]", "user and group"),
                option("additional-gids", Some("g"), "GID", "further groups"),
                option("process", Some("p"), "FILE", "the process as JSON, as in config.json"),
                switch("detach", Some("d"), "do not wait for the process"),
                PID_FILE,
                option("process-label", None, "LABEL", "SELinux label"),
                option("apparmor", None, "PROFILE", "AppArmor profile"),
                switch("no-new-privs", None, "never gain privileges"),
                option("cap", Some("c"), "CAP", "add a capability"),
                PRESERVE,
                option("cgroup", None, "PATH", "an existing cgroup below the container's"),
                switch("ignore-paused", None, "exec in a paused container too"),
            ],
            count: (1, usize::MAX),
            in_order: true,
        },
    ),
    (
        Verb::Kill,
        Syntax {
            name: "kill",
            operands: "<container-id> [signal]",
            about: "Send a signal, SIGTERM by default, to a container",
            flags: &[switch("all", Some("a"), "to all of its processes")],
            count: (1, 2),
            in_order: false,
        },
    ),
    (
        Verb::Delete,
        Syntax {
            name: "delete",
            operands: CONTAINER,
            about: "Remove what is left of a container",
            flags: &[switch("force", Some("f"), "kill it first if it runs")],
            count: (1, 1),
            in_order: false,
        },
    ),
    (Verb::State, plain("state", "Print the state of a container as JSON")),
    (
        Verb::List,
        Syntax {
            name: "list",
            operands: "",
            about: "List containers",
            flags: &[FORMAT, switch("quiet", Some("q"), "print ids only")],
            count: (0, 0),
            in_order: false,
        },
    ),
    (
        Verb::Ps,
        Syntax {
            name: "ps",
            operands: "<container-id> [ps options]",
            about: "List the processes of a container",
            flags: &[FORMAT],
            count: (1, usize::MAX),
            in_order: true,
        },
    ),
    (Verb::Pause, plain("pause", "Stop all processes of a container in their tracks")),
    (Verb::Resume, plain("resume", "Let a paused container go on")),
    (
        Verb::Update,
        Syntax {
            name: "update",
            operands: CONTAINER,
            about: "Change the limits of a container",
            flags: &[
                option(
                    "resources",
                    Some("r"),
                    "FILE",
                    "linux.resources as JSON; - is standard input",
                ),
                option("blkio-weight", None, "N", "block I/O weight, 10 to 1000"),
                option("cpu-period", None, "US", "length of a period"),
                option("cpu-quota", None, "US", "processor time in a period"),
                option("cpu-share", None, "N", "processor time relative to others"),
                option("cpu-rt-period", None, "US", "length of a real-time period"),
                option("cpu-rt-runtime", None, "US", "real-time processor time in a period"),
                option("cpuset-cpus", None, "LIST", "processors to run on"),
                option("cpuset-mems", None, "LIST", "memory nodes to use"),
                option("cpu-idle", None, "N", "1 to run only when nothing else does"),
                option("memory", None, "BYTES", "memory limit"),
                option("memory-reservation", None, "BYTES", "soft memory limit"),
                option("memory-swap", None, "BYTES", "memory and swap together; -1 for no limit"),
                option("pids-limit", None, "N", "most processes and threads"),
                option("l3-cache-schema", None, "SCHEMA", "not supported"),
                option("mem-bw-schema", None, "SCHEMA", "not supported"),
            ],
            count: (1, 1),
            in_order: false,
        },
    ),
    (
        Verb::Spec,
        Syntax {
            name: "spec",
            operands: "",
            about: "Write a config.json to start from",
            flags: &[
                option("bundle", Some("b"), "DIR", "where to write it [.]"),
                switch("rootless", None, "for a user namespace of the caller"),
            ],
            count: (0, 0),
            in_order: false,
        },
    ),
    (
        Verb::Features,
        Syntax {
            name: "features",
            operands: "",
            about: "Print what this runtime can do as JSON",
            flags: &[],
            count: (0, 0),
            in_order: false,
        },
    ),
];
