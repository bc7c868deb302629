//! Names and addresses of `--add-host`, and numbers of the host's devices.

use std::{io, net::IpAddr};

/// `name:address` or `name=address`.
///
/// # Errors
/// What would be right.
pub fn mapping(text: &str) -> Result<(String, String), String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write host:ip")?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return Err(format!("\"{address}\" is not an IP address"));
    }
    Ok((name.to_owned(), address.to_owned()))
}

/// Major and minor number of a block device.
///
/// # Errors
/// What the kernel says, and if it is no block device.
pub fn block_device(path: &str) -> io::Result<(u32, u32)> {
    let stat = rustix::fs::stat(path)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::BlockDevice {
        return Err(io::Error::other("it is not a block device"));
    }
    Ok((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_addresses() {
        let pair = |name: &str, address: &str| Ok((name.to_owned(), address.to_owned()));
        assert_eq!(mapping("db:10.0.0.1"), pair("db", "10.0.0.1"));
        assert_eq!(mapping("db=[::1]"), pair("db", "::1"));
        assert_eq!(mapping("h:host-gateway"), pair("h", "host-gateway"));
        for bad in ["db", ":1.2.3.4", "db:nowhere"] {
            assert!(mapping(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_block_device_has_no_number() {
        assert!(block_device("/dev/null").is_err());
        assert!(block_device("/nowhere").is_err());
    }
}
