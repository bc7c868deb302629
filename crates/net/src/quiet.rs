//! Containers' reports of what they listen to stay where they are.
//!
//! When a link comes up the kernel reports the multicast groups of its IPv6 addresses, four
//! packets, to all multicast routers (MLDv2, RFC 3810). A bridge floods them to all its ports,
//! each of which hands them to its namespace's network stack, while everybody who wants to change
//! a link waits: among a thousand containers every start costs all of them ten milliseconds. There
//! is nobody to tell, as [the bridge](crate::link::add_bridge) keeps no lists.
//!
//! So a rule of the bridges' own family drops such reports as they come in from a container. Without
//! it, on a kernel that has no such family, or after somebody flushed it, all works as well.

use rustix::io::Errno;
use sys::netlink::NetlinkError;

use crate::{
    Host,
    host::gone,
    interface::ENDPOINT_PREFIX,
    nft::{Chain, Hook, Register, Step, Transaction},
};

/// Before `br_netfilter`, which would take such packets through the host's own rules (priority 0).
const CHAIN: Chain =
    Chain { name: "reports", hook: Hook { kind: "filter", number: 0, priority: -300 } };

/// `iifname "wy*" meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type mld2-listener-report drop`
fn rule() -> Vec<Step> {
    const META_PROTOCOL: u32 = 1;
    const META_IIFNAME: u32 = 6;
    const META_L4PROTO: u32 = 16;
    const TRANSPORT_HEADER: u32 = 2;
    const ETH_P_IPV6: u16 = 0x86dd;
    const ICMPV6: u8 = 58;
    const MLD2_REPORT: u8 = 143;
    const A: Register = Register(0);
    let equal = |value: &[u8]| Step::Equal { register: A, value: value.into() };
    vec![
        Step::Meta { key: META_IIFNAME, to: A },
        equal(ENDPOINT_PREFIX.as_bytes()),
        Step::Meta { key: META_PROTOCOL, to: A },
        equal(&ETH_P_IPV6.to_be_bytes()),
        Step::Meta { key: META_L4PROTO, to: A },
        equal(&[ICMPV6]),
        Step::Payload { base: TRANSPORT_HEADER, offset: 0, length: 1, to: A },
        equal(&[MLD2_REPORT]),
        Step::Drop,
    ]
}

fn removal(table: &str) -> Transaction<'_> {
    let mut transaction = Transaction::of_bridges(table);
    // To add first lets the deletion succeed where there is no table.
    transaction.add_table();
    transaction.delete_table();
    transaction
}

impl Host {
    /// Writes the rule.
    pub(crate) fn keep_quiet(&self) {
        let mut table = self.table();
        let name = table.name().to_owned();
        let mut transaction = removal(&name);
        transaction.add_table();
        transaction.add_chain(&CHAIN);
        transaction.add_rule(CHAIN.name, &rule());
        if let Err(error) = table.converse(transaction) {
            tracing::debug!(%error, "containers' multicast reports reach all the others");
        }
    }

    /// Removes it.
    pub(crate) fn no_longer_quiet(&self) -> Result<(), NetlinkError> {
        let mut table = self.table();
        let name = table.name().to_owned();
        match table.converse(removal(&name)) {
            // The kernel knows no rules for bridges, so there are none.
            Err(error) if matches!(error.errno, Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => Ok(()),
            other => gone(other),
        }
    }
}
