//! Whose namespaces are used.

use engine::{Create, NamespaceMode};

use crate::{error::ApiError, fields::Fields, spec::namespace};

pub(super) fn read(given: &mut Fields<'_>, create: &mut Create) -> Result<(), ApiError> {
    create.pid = mode(given, "PidMode", &["private"], true)?;
    create.ipc = mode(given, "IpcMode", &["private", "shareable"], true)?;
    create.uts = mode(given, "UTSMode", &["private"], false)?;
    create.cgroupns = mode(given, "CgroupnsMode", &["private"], false)?;
    let users = given.text("UsernsMode")?.unwrap_or_default();
    create.user_map = namespace::user_map(&users)
        .map_err(|why| given.wrong("UsernsMode", format!("invalid mode {users:?}: {why}")))?;
    Ok(())
}

fn mode(
    given: &mut Fields<'_>,
    name: &str,
    own: &[&str],
    joins: bool,
) -> Result<NamespaceMode, ApiError> {
    let text = given.text(name)?.unwrap_or_default();
    match namespace::mode(&text, own) {
        Ok(NamespaceMode::Container(_)) if !joins => {
            Err(given.wrong(name, format!("invalid mode {text:?}: use host or private")))
        }
        Ok(mode) => Ok(mode),
        Err(why) => Err(given.wrong(name, format!("invalid mode {text:?}: {why}"))),
    }
}
