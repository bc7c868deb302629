//! Whether a configuration is what was asked for: a line that another Linux does not know, or
//! whose needs are not met, is dropped without a word.

use std::collections::BTreeMap;

/// The options of a configuration and their values; one that is off has none.
fn options(text: &str) -> BTreeMap<&str, Option<&str>> {
    text.lines()
        .filter_map(|line| {
            match line.strip_prefix("# ").and_then(|it| it.strip_suffix(" is not set")) {
                Some(name) => Some((name, None)),
                None if line.starts_with('#') => None,
                None => line.split_once('=').map(|(name, value)| (name, Some(value))),
            }
        })
        .filter(|(name, _)| name.starts_with("CONFIG_"))
        .collect()
}

/// Which lines of `wanted` are not so in `made`.
pub(super) fn different(wanted: &str, made: &str) -> Vec<String> {
    let made = options(made);
    let differs = |(name, value): (&str, Option<&str>)| {
        let found = made.get(name).copied().flatten();
        (found != value).then(|| match value {
            Some(value) => format!("{name}={value} is not to be had"),
            None => format!("{name} cannot be switched off"),
        })
    };
    options(wanted).into_iter().filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::CONFIG;

    #[test]
    fn every_line_that_is_not_followed_is_named() {
        let wanted =
            "# a comment\nCONFIG_A=y\nCONFIG_B=\"-x\"\n# CONFIG_C is not set\nCONFIG_D=250\n";
        assert_eq!(different(wanted, wanted), [""; 0]);
        // What is off need not be written down.
        assert_eq!(different(wanted, "CONFIG_A=y\nCONFIG_B=\"-x\"\nCONFIG_D=250\n"), [""; 0]);
        assert_eq!(
            different(wanted, "# CONFIG_A is not set\nCONFIG_B=\"-y\"\nCONFIG_C=y\n"),
            [
                "CONFIG_A=y is not to be had",
                "CONFIG_B=\"-x\" is not to be had",
                "CONFIG_C cannot be switched off",
                "CONFIG_D=250 is not to be had",
            ]
        );
    }

    #[test]
    fn the_minimal_configuration_has_what_a_guest_is_made_of() {
        let options = options(CONFIG);
        for name in [
            "EROFS_FS",
            "OVERLAY_FS",
            "EXT4_FS",
            "VIRTIO_MMIO",
            "VIRTIO_BLK",
            "VIRTIO_NET",
            "VIRTIO_CONSOLE",
            "VIRTIO_BALLOON",
            "VIRTIO_VSOCKETS",
            "VIRTIO_FS",
            "HW_RANDOM_VIRTIO",
            "CGROUPS",
            "NET_NS",
            "USER_NS",
            "PID_NS",
            "TIME_NS",
            "SECCOMP_FILTER",
            "NF_TABLES",
            "DEVTMPFS",
            "SERIAL_8250_CONSOLE",
            "KVM_GUEST",
            "SMP",
            "BLK_DEV_INITRD",
        ] {
            assert_eq!(options.get(format!("CONFIG_{name}").as_str()), Some(&Some("y")), "{name}");
        }
        // No bus of PCI, no firmware, nothing to be loaded.
        for name in ["VIRTIO_PCI", "PCI_MSI"] {
            assert_eq!(options.get(format!("CONFIG_{name}").as_str()), Some(&None), "{name}");
        }
        for name in ["EFI", "PCIEPORTBUS"] {
            assert_eq!(options.get(format!("CONFIG_{name}").as_str()), None, "{name}");
        }
        assert!(options.values().all(|value| *value != Some("m")));
        // No option stands twice.
        let lines = CONFIG
            .lines()
            .filter(|line| line.starts_with("CONFIG_") || line.ends_with(" is not set"));
        assert_eq!(lines.count(), options.len());
    }
}
