//! A kernel's command line. Pure.

use crate::{
    net::{ADDRESS, Network},
    spec::Spec,
};

/// What every command line begins with: where the console is, how it resets, and that a panic is
/// an end.
const ALWAYS: &str = "console=ttyS0 reboot=k panic=-1";

/// The command line of a machine of this name. What the user says is last, where it wins.
///
/// Without a first root file system, the root is the first disk, unless the user names another. A
/// kernel that can sets up its network by `ip=`; others leave that word alone.
///
/// Source: Linux, Documentation/admin-guide/kernel-parameters.txt and nfs/nfsroot.rst.
pub(crate) fn command_line(spec: &Spec, host_name: &str) -> String {
    let mut words = vec![ALWAYS.to_owned()];
    let first = spec.disks.iter().find(|disk| !disk.seed);
    let named = spec.arguments.split_whitespace().any(|word| word.starts_with("root="));
    if let (Some(disk), 0, false) = (first, spec.initrds, named) {
        words.push(format!("root=/dev/vda {}", if disk.read_only { "ro" } else { "rw" }));
    }
    if matches!(spec.network, Network::User { .. }) {
        let own = usernet::Addresses::default();
        let (gateway, resolver) = (own.gateway(), own.resolver());
        words.push(format!("ip={ADDRESS}::{gateway}:255.255.255.0:{host_name}::off:{resolver}"));
    }
    words.push(spec.arguments.clone());
    words.join(" ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::example;

    #[test]
    fn a_kernel_is_told_of_console_root_and_network() {
        let mut spec = example();
        let text = command_line(&spec, "web");
        assert_eq!(
            text,
            "console=ttyS0 reboot=k panic=-1 root=/dev/vda rw \
             ip=10.0.2.15::10.0.2.2:255.255.255.0:web::off:10.0.2.3 quiet"
        );
        spec.network = Network::None;
        spec.disks[0].read_only = true;
        assert_eq!(
            command_line(&spec, "w"),
            "console=ttyS0 reboot=k panic=-1 root=/dev/vda ro quiet"
        );
        spec.arguments = "root=/dev/vda1 ro".to_owned();
        assert_eq!(command_line(&spec, "w"), "console=ttyS0 reboot=k panic=-1 root=/dev/vda1 ro");
        spec.arguments = String::new();
        spec.initrds = 1;
        assert_eq!(command_line(&spec, "w"), "console=ttyS0 reboot=k panic=-1");
        spec.initrds = 0;
        spec.disks[0].seed = true;
        assert_eq!(command_line(&spec, "w"), "console=ttyS0 reboot=k panic=-1");
    }
}
