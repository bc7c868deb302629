//! Modules of the kernel that the initial file system brought along.
//!
//! `/modules/order` names them, each after those it needs. A kernel that has everything built in
//! brings none.

use std::{fs::File, io, path::Path};

use rustix::{io::Errno, system::finit_module};

use crate::ground::{GroundError, failed};

const DIRECTORY: &str = "/modules";

/// Loads them all; nobody needs their files any more then.
pub(crate) fn load() -> Result<(), GroundError> {
    let order = Path::new(DIRECTORY).join("order");
    let names = match std::fs::read_to_string(&order) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(format!("read {}", order.display()))(error)),
    };
    for name in names.lines() {
        let path = Path::new(DIRECTORY).join(name);
        let doing = || failed(format!("load the module {name}"));
        let file = File::open(path).map_err(doing())?;
        match finit_module(&file, c"", 0) {
            // It may be built in, or somebody's hardware that is not there.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::NODEV) => tracing::warn!(name, "a module has no device"),
            Err(error) => return Err(doing()(error.into())),
        }
    }
    std::fs::remove_dir_all(DIRECTORY).map_err(failed("remove the modules' files"))
}
