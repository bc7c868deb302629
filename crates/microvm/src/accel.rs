//! What carries out machines' instructions on this host. It takes a while to find out, so that is
//! done once for each boot of the host, and kept in a file.

use std::{fs, os::unix::fs::MetadataExt as _};

use hv::Accel;
use workload::DriverError;

use crate::{driver::VmConfig, link::Link};

/// Says which boot of the host this is. Source: random(4).
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// What came when it came: a module of the kernel that is loaded later changes the finding.
const KVM: &str = "/dev/kvm";

/// The file, in the directory of what is kept.
const FILE: &str = "accel";

/// The best there is here, as was found out before or by trying.
pub(crate) async fn best(config: &VmConfig) -> Result<Accel, DriverError> {
    if let Some(accel) = config.accel {
        return Ok(accel);
    }
    let host = host();
    let kept = config.warm.as_deref();
    let file = kept.map(|directory| directory.join(FILE));
    if let Some(file) = &file
        && let Some(found) = read(&fs::read_to_string(file).unwrap_or_default(), &host)
    {
        return Ok(found);
    }
    // By a process that is no machine: where KVM hangs, a thread of it may stay behind.
    let link = Link::start(config, None, None)?;
    let found = link.probe().await?;
    link.kill().await?;
    if let (Some(file), Some(directory)) = (&file, kept) {
        let written =
            fs::create_dir_all(directory).and_then(|()| fs::write(file, write(found, &host)));
        // The next one tries again.
        if let Err(error) = written {
            tracing::warn!(path = %file.display(), %error, "a finding is not kept");
        }
    }
    Ok(found)
}

/// What was asked for.
pub(crate) fn of(asked: workload::Accel) -> Accel {
    match asked {
        workload::Accel::Kvm => Accel::Kvm,
        workload::Accel::Soft => Accel::Soft,
    }
}

/// Names the host as far as the finding depends on it.
fn host() -> String {
    let boot = fs::read_to_string(BOOT).unwrap_or_default();
    let kvm = fs::metadata(KVM).map(|kvm| (kvm.ino(), kvm.ctime(), kvm.ctime_nsec()));
    format!("{} {:?}", boot.trim_end(), kvm.ok())
}

fn write(accel: Accel, host: &str) -> String {
    let word = match accel {
        Accel::Kvm => "kvm",
        Accel::Soft => "soft",
    };
    format!("{word}\n{host}\n")
}

/// What was written for this host; a torn file is none.
fn read(text: &str, host: &str) -> Option<Accel> {
    let (word, rest) = text.split_once('\n')?;
    if rest.strip_suffix('\n')? != host {
        return None;
    }
    match word {
        "kvm" => Some(Accel::Kvm),
        "soft" => Some(Accel::Soft),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_holds_for_the_host_that_it_was_made_on() {
        for accel in [Accel::Kvm, Accel::Soft] {
            let text = write(accel, "this boot");
            assert_eq!(read(&text, "this boot"), Some(accel));
            assert_eq!(read(&text, "another"), None);
            assert!((0..text.len()).all(|n| read(&text[..n], "this boot").is_none()));
        }
    }
}
