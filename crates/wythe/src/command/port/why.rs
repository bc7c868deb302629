//! Who can reach a published port, and through which rule.

use std::fmt::Write as _;

use engine::{PortBinding, Protocol};
use net::{Admission, ChainPolicy, Judgement};
use serde::Serialize;

use crate::{connect::Endpoint, error::CliError, output};

/// One port of the host and where it leads.
#[derive(Debug, Serialize)]
struct Published {
    container: String,
    host: String,
    inside: String,
    /// Who reaches it from elsewhere, in a word: everybody, nobody, some, unknown.
    reached_by: &'static str,
    #[serde(flatten)]
    admission: Admission,
}

/// Prints it; the exit code is 1 where nothing is published there.
pub(super) async fn run(port: &str, format: &str, to: &Endpoint) -> Result<u8, CliError> {
    let (number, protocol) = parse(port)?;
    let mut client = to.connect().await?;
    let containers = client.list().await?;
    let mut all = Vec::new();
    for container in &containers {
        let bindings = container.ports.iter();
        for binding in bindings.filter(|b| (b.host_port, b.protocol) == (number, protocol)) {
            let admission = client.admission(protocol, number, binding.container_port).await?;
            all.push(Published {
                container: container.name.to_string(),
                host: host(binding),
                inside: binding.container_port.to_string(),
                reached_by: reached_by(binding, &admission),
                admission,
            });
        }
    }
    if all.is_empty() {
        let why = format!("no container publishes port {port}; wythe ps shows those that are");
        return Err(CliError::Usage(why));
    }
    if format == "json" {
        let json = serde_json::to_string_pretty(&all).expect("findings are always JSON");
        output::line(&json)?;
    } else {
        output::print(&all.iter().map(text).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(0)
}

fn parse(port: &str) -> Result<(u16, Protocol), CliError> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = match protocol {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    };
    match (number.parse().ok().filter(|number| *number > 0), protocol) {
        (Some(number), Some(protocol)) => Ok((number, protocol)),
        _ => {
            let why = format!("\"{port}\" is no port: use a number, and /udp for UDP");
            Err(CliError::Usage(why))
        }
    }
}

fn host(binding: &PortBinding) -> String {
    std::net::SocketAddr::new(binding.host_ip, binding.host_port).to_string()
}

fn reached_by(binding: &PortBinding, admission: &Admission) -> &'static str {
    let mut chains = admission.input.iter().chain(&admission.forward);
    if binding.host_ip.is_loopback() || chains.any(ChainPolicy::lets_nobody) {
        return "nobody";
    }
    let mut chains = admission.input.iter().chain(&admission.forward);
    match chains.all(ChainPolicy::lets_everybody) {
        true if admission.unread.is_empty() => "everybody",
        true => "unknown",
        false => "some",
    }
}

fn text(published: &Published) -> String {
    let Published { container, host, inside, reached_by, admission } = published;
    let mut text = format!("{host} leads to port {inside} of {container}\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  from this host: yes, by wythe's chain output");
    let elsewhere = match *reached_by {
        "everybody" => "everybody who reaches that address",
        "nobody" => "nobody",
        "some" => "those whom every chain below lets pass",
        _ => "those whom iptables-legacy lets pass, whose rules cannot be read here",
    };
    let _ = writeln!(text, "  from elsewhere: {elsewhere}");
    for policy in admission.input.iter().chain(&admission.forward) {
        let ChainPolicy { family, table, chain, hook, .. } = policy;
        let _ = writeln!(text, "    {hook}: chain {chain} of table {family} {table}");
        policy.judgements.iter().for_each(|judgement| tell(&mut text, judgement));
    }
    for line in admission.barriers.iter().flat_map(|barrier| &barrier.mend) {
        let _ = writeln!(text, "    to let it through: {line}");
    }
    for table in &admission.unread {
        let _ = writeln!(text, "    table {table} of iptables-legacy: see iptables-legacy -S");
    }
    let _ = writeln!(text, "    then: chain input of wythe's own table, which leads it in");
    text
}

fn tell(text: &mut String, judgement: &Judgement) {
    let Judgement { accept, conditions, by } = judgement;
    let verb = match accept {
        Some(true) => "let pass",
        Some(false) => "dropped",
        None => "not known",
    };
    let when = match conditions.as_slice() {
        [] => "all others".to_owned(),
        some => format!("if {}", some.join(" and ")),
    };
    let _ = writeln!(text, "      {when}: {verb}, by {by}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(judgements: Vec<Judgement>) -> ChainPolicy {
        let name = |name: &str| name.to_owned();
        let (family, table) = (name("inet"), name("fw"));
        ChainPolicy { family, table, chain: name("input"), hook: name("input"), judgements }
    }

    fn judgement(accept: bool, conditions: &[&str]) -> Judgement {
        let conditions = conditions.iter().map(|c| (*c).to_owned()).collect();
        Judgement { accept: Some(accept), conditions, by: "policy".to_owned() }
    }

    #[test]
    fn who_reaches_it_follows_from_all_chains() {
        let binding = |ip: &str| PortBinding {
            host_ip: ip.parse().unwrap(),
            host_port: 80,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let admission = |input| Admission { input, ..Admission::default() };
        let open = || chain(vec![judgement(true, &[])]);
        let closed = || chain(vec![judgement(false, &[])]);
        let some = || chain(vec![judgement(true, &["ip saddr 10.0.0.0/8"]), judgement(false, &[])]);
        for (ip, chains, want) in [
            ("0.0.0.0", vec![], "everybody"),
            ("0.0.0.0", vec![open()], "everybody"),
            ("0.0.0.0", vec![open(), closed()], "nobody"),
            ("0.0.0.0", vec![open(), some()], "some"),
            ("127.0.0.1", vec![open()], "nobody"),
        ] {
            assert_eq!(reached_by(&binding(ip), &admission(chains)), want, "{ip}");
        }
    }

    #[test]
    fn ports_are_read_or_refused() {
        assert_eq!(parse("53/udp").unwrap(), (53, Protocol::Udp));
        assert_eq!(parse("80").unwrap(), (80, Protocol::Tcp));
        for bad in ["", "0", "x", "80/icmp", "70000"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
