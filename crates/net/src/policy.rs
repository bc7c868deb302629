//! What the host's own chains say of new connections to a port, for people to read.
//!
//! The kernel decides; this explains. Chains are walked as the kernel walks them, for a packet of
//! which only the protocol and the destination port are known: a rule that cannot match is passed
//! over, one that must match ends the walk, and whatever else a rule asks (the source, the
//! interface) becomes a condition in words. What cannot be read is a condition that says so, never
//! a guess.
//!
//! Pure. Source: nf_tables' bytecode as nft(8) describes it, `linux/netfilter/nf_tables.h`.

mod read;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use read::{Elements, RawChain, RawRule, get_chains, get_elements, get_rules};
pub(crate) use rule::{Asked, Facts, State};
use rule::{Effect, Reading};

/// Most chains that one may jump through. Source: `NFT_JUMP_STACK_SIZE`.
const DEPTH_MAX: usize = 16;

/// A chain of the host that a packet passes, and what it does with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainPolicy {
    /// `ip`, `ip6`, `inet`, …
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// `input` or `forward`.
    pub hook: String,
    /// What it does, in order; the first whose conditions hold.
    pub judgements: Vec<Judgement>,
}

/// One outcome of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Whether the packet goes on; `None` where this program cannot tell.
    pub accept: Option<bool>,
    /// What must be so, all of it; empty where it always is.
    pub conditions: Vec<String>,
    /// The rule, as `nft --handle` names it, or the chain's policy.
    pub by: String,
}

impl ChainPolicy {
    /// Whether everybody passes, whoever they are.
    pub fn lets_everybody(&self) -> bool {
        self.judgements.iter().all(|judgement| judgement.accept == Some(true))
    }

    /// Whether nobody does.
    pub fn lets_nobody(&self) -> bool {
        self.judgements.iter().all(|judgement| judgement.accept == Some(false))
    }
}

/// Everything of the host's rule sets that is needed.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) chains: Vec<RawChain>,
    pub(crate) rules: Vec<RawRule>,
    pub(crate) sets: BTreeMap<(u8, String, String), Elements>,
}

impl Rules {
    /// The chains that hook in here, what each does with a packet of which this is known.
    pub(crate) fn judge<'r>(&'r self, hook: Hook, asked: Asked<'r>) -> Vec<ChainPolicy> {
        let meets = |chain: &&RawChain| {
            let both = chain.family == FAMILY_BOTH;
            let family = asked.family.is_none_or(|asked| both || asked == chain.family);
            chain.hook == Some(hook.number()) && family
        };
        let here = self.chains.iter().filter(meets);
        here.map(|chain| {
            let mut walk = Walk { rules: self, asked, judgements: Vec::new() };
            if !walk.chain(chain, &chain.name, &[], 0) {
                let by = "policy".to_owned();
                let accept = Some(chain.accepts);
                walk.judgements.push(Judgement { accept, conditions: Vec::new(), by });
            }
            ChainPolicy {
                family: family_name(chain.family).to_owned(),
                table: chain.table.clone(),
                chain: chain.name.clone(),
                hook: hook.name().to_owned(),
                judgements: walk.judgements,
            }
        })
        .collect()
    }
}

/// Where in the network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Input,
    Forward,
}

impl Hook {
    /// `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`.
    fn number(self) -> u32 {
        match self {
            Hook::Input => 1,
            Hook::Forward => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Hook::Input => "input",
            Hook::Forward => "forward",
        }
    }
}

struct Walk<'r> {
    rules: &'r Rules,
    asked: Asked<'r>,
    judgements: Vec<Judgement>,
}

impl Walk<'_> {
    /// Walks a chain; whether nothing comes after it, whatever the packet is.
    fn chain(&mut self, base: &RawChain, name: &str, given: &[String], depth: usize) -> bool {
        let own = |rule: &&RawRule| {
            rule.family == base.family && rule.table == base.table && rule.chain == name
        };
        let rules = self.rules;
        for rule in rules.rules.iter().filter(own) {
            let facts = Facts { family: base.family, table: &base.table, sets: &rules.sets };
            let Some(Reading { conditions, effect }) =
                rule::read(&rule.expressions, self.asked, facts)
            else {
                continue;
            };
            let always = conditions.is_empty();
            let conditions = [given, &conditions].concat();
            let by = format!("rule {} of chain {name}", rule.handle);
            let accept = match effect {
                Effect::Nothing => continue,
                Effect::Accept => Some(true),
                Effect::Refuse => Some(false),
                // Where a packet that may return goes on depends on what is not known.
                Effect::Return if always => return false,
                Effect::Unknown | Effect::Return => None,
                Effect::Jump(to) | Effect::Goto(to) if depth >= DEPTH_MAX => {
                    let by = format!("{by}, which leads too deep, into {to}");
                    self.judgements.push(Judgement { accept: None, conditions, by });
                    continue;
                }
                Effect::Jump(to) => {
                    if self.chain(base, &to, &conditions, depth + 1) && always {
                        return true;
                    }
                    continue;
                }
                Effect::Goto(to) => {
                    let ended = self.chain(base, &to, &conditions, depth + 1);
                    if always {
                        return ended;
                    }
                    continue;
                }
            };
            self.judgements.push(Judgement { accept, conditions, by });
            if always && accept.is_some() {
                return true;
            }
        }
        false
    }
}

/// `NFPROTO_INET`: the table sees packets of both families.
const FAMILY_BOTH: u8 = 1;

/// The name of an address family. Source: `NFPROTO_` in linux/netfilter.h.
pub(crate) fn family_name(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    }
}
