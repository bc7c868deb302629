//! What a PVH kernel is told by who loads it.
//!
//! Source: Xen `xen/include/public/arch-x86/hvm/start_info.h`, version 1.

use super::Plan;
use crate::layout;

/// "xEn3" with the uppermost bit of the E set.
const MAGIC: u32 = 0x336e_c578;

/// The first version with a memory map.
const VERSION: u32 = 1;

/// Bytes of the structure itself, of a module and of a region.
const INFO: u64 = 56;
const MODULE: u64 = 32;

/// The start info, behind it the list of modules and the memory map.
pub(super) fn start_info(plan: &Plan) -> Vec<u8> {
    let modules = u64::from(plan.initrd.is_some());
    let list = layout::START_INFO + INFO;
    let map = list + modules * MODULE;
    let regions = u32::try_from(plan.map.len()).expect("a machine has a handful of regions");
    let mut info = Vec::new();
    info.extend(MAGIC.to_le_bytes());
    info.extend(VERSION.to_le_bytes());
    info.extend([0; 4]);
    info.extend(&modules.to_le_bytes()[..4]);
    for address in [list * modules, layout::COMMAND_LINE, plan.rsdp.unwrap_or(0), map] {
        info.extend(address.to_le_bytes());
    }
    info.extend(regions.to_le_bytes());
    info.extend([0; 4]);
    if let Some((address, bytes)) = plan.initrd {
        for word in [address, bytes, 0, 0] {
            info.extend(word.to_le_bytes());
        }
    }
    for region in &plan.map {
        info.extend(region.start.to_le_bytes());
        info.extend(region.bytes.to_le_bytes());
        info.extend(region.kind.number().to_le_bytes());
        info.extend([0; 4]);
    }
    info
}
