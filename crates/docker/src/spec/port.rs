//! Ports as Docker writes them: `80`, `80/udp`, `8000-8010/tcp`.

use engine::Protocol;

/// A port or a range of them with its protocol, one by one.
///
/// # Errors
/// What would be right.
pub fn exposed(text: &str) -> Result<Vec<(u16, Protocol)>, String> {
    let (rest, protocol) = protocol(text)?;
    let (first, last) = range(rest)?;
    Ok((first..=last).map(|port| (port, protocol)).collect())
}

fn protocol(text: &str) -> Result<(&str, Protocol), String> {
    let Some((rest, name)) = text.rsplit_once('/') else { return Ok((text, Protocol::Tcp)) };
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok((rest, Protocol::Tcp)),
        "udp" => Ok((rest, Protocol::Udp)),
        "sctp" => Err("sctp is not built yet: use tcp or udp".to_owned()),
        _ => Err(format!("\"{name}\" is not a protocol: use tcp or udp")),
    }
}

/// First and last port of a range.
///
/// # Errors
/// What would be right.
pub fn range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        let bad = || format!("\"{text}\" is not a port: use a number from 1 to 65535");
        text.parse::<u16>().map_err(|_| bad())
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("the range {first}-{last} runs backwards"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_ranges_and_protocols() {
        assert_eq!(exposed("80"), Ok(vec![(80, Protocol::Tcp)]));
        assert_eq!(exposed("53-54/UDP"), Ok(vec![(53, Protocol::Udp), (54, Protocol::Udp)]));
        for bad in ["", "x", "80/sctp", "80/", "2-1", "1-2-3", "65536"] {
            assert!(exposed(bad).is_err(), "{bad}");
        }
    }
}
