//! Every parser of bytes from elsewhere, as a function that takes any bytes.
//!
//! The same targets run in three ways: over the seeds and thousands of mutations of them in the
//! tests, for as long as one likes under a coverage-guided fuzzer (`cargo xtask fuzz`), and on one
//! input that was found (`cargo xtask fuzz TARGET FILE`). A target panics when something is wrong;
//! refusing its input is right.
//!
//! Only this crate knows that there is a fuzzer.

mod cli;
mod guest;
mod image;
mod text;

#[cfg(test)]
mod tests;

/// One parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory of seeds.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 39] = [
    Target { name: "tar", run: image::tar },
    Target { name: "layer", run: image::layer },
    Target { name: "erofs", run: image::erofs },
    Target { name: "image-json", run: image::json },
    Target { name: "reference", run: image::reference },
    Target { name: "oci-config", run: text::oci_config },
    Target { name: "seccomp", run: text::seccomp },
    Target { name: "frame", run: text::frame },
    Target { name: "ethernet", run: usernet::fuzzing::frame },
    Target { name: "vsock-packet", run: virtio::vsock::fuzzing::packets },
    Target { name: "net-header", run: virtio::net::fuzzing::headers },
    Target { name: "fuse-request", run: guest::fuse },
    Target { name: "vsock", run: virtio::vsock::fuzzing::device },
    Target { name: "net", run: virtio::net::fuzzing::device },
    Target { name: "fs", run: guest::fs },
    Target { name: "dns", run: dns::fuzzing::datagram },
    Target { name: "journal", run: text::journal },
    Target { name: "record", run: text::record },
    Target { name: "docker-create", run: text::docker_create },
    Target { name: "websocket", run: text::websocket },
    Target { name: "openpgp", run: kernels::fuzzing::openpgp },
    Target { name: "debian-index", run: kernels::fuzzing::index },
    Target { name: "debian-package", run: kernels::fuzzing::package },
    Target { name: "kernel", run: kernels::fuzzing::kernel },
    Target { name: "challenge", run: text::challenge },
    Target { name: "registry-request", run: registry_server::fuzzing::request },
    Target { name: "registry-manifest", run: registry_server::fuzzing::manifest },
    Target { name: "command-line", run: cli::command_line },
    Target { name: "run-flags", run: cli::run_flags },
    Target { name: "format", run: cli::format },
    Target { name: "boot", run: vm::boot::fuzzing::kernel },
    Target { name: "kernel", run: vm::boot::fuzzing::kernel },
    Target { name: "snapshot", run: guest::snapshot },
    Target { name: "blk", run: virtio::fuzzing::blk },
    Target { name: "console", run: virtio::fuzzing::console },
    Target { name: "rng", run: virtio::fuzzing::rng },
    Target { name: "balloon", run: virtio::fuzzing::balloon },
    Target { name: "qcow2", run: virtio::fuzzing::qcow2 },
    Target { name: "chips", run: softcpu::chips::fuzzing::accesses },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
