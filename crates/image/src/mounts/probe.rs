//! What this host can do with EROFS, found out by doing it.

use std::{fs::File, io, path::Path};

use workload::Finding;

use super::{Attach, Form, Marks, attach};
use crate::layer::{self, Limits};

/// The best form that works here, with what was found. `scratch` is a directory of the store, so
/// that its file system is tried and not another.
pub(crate) fn probe(scratch: &Path) -> (Form, Vec<Finding>) {
    let mut findings = Vec::new();
    let path = scratch.join("probe.erofs");
    if let Err(error) = write(&path) {
        // A full disk says nothing of the kernel; and who takes it for a no keeps layers in
        // another form from now on.
        return (untried(), vec![untried_finding(&error)]);
    }
    for how in [Attach::File, Attach::Loop] {
        let outcome = attach::open(how, &path).map(drop);
        findings.push(finding(how, &outcome));
        if outcome.is_ok() {
            remove(&path);
            return (Form::Erofs(how), findings);
        }
    }
    remove(&path);
    (Form::Directory(marks()), findings)
}

/// What is most likely where nothing can be tried.
fn untried() -> Form {
    if sys::userns::is_confined() { Form::Directory(marks()) } else { Form::Erofs(Attach::File) }
}

/// Whose marks a layer of ours can have.
fn marks() -> Marks {
    if sys::userns::is_confined() { Marks::User } else { Marks::Trusted }
}

/// Writes the EROFS image of an empty layer.
fn write(path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    let empty: &[u8] = &[0; 1024];
    let written = layer::write_erofs(empty, &file, &Limits::default(), &mut |_| {});
    written.map(drop).map_err(io::Error::other)
}

fn remove(path: &Path) {
    // The scratch directory is emptied at the next opening in any case.
    let _ = std::fs::remove_file(path);
}

fn untried_finding(error: &io::Error) -> Finding {
    Finding {
        subject: "image layers: EROFS".to_owned(),
        works: false,
        detail: format!("it cannot be tried whether EROFS files can be mounted: {error}"),
        mend: Some("make room, then start the daemon again".to_owned()),
    }
}

fn finding(how: Attach, outcome: &io::Result<()>) -> Finding {
    let (works, what) = match (how, outcome) {
        (Attach::File, Ok(())) => (true, "layers are EROFS files, mounted as they are".to_owned()),
        (Attach::Loop, Ok(())) => (true, "layers are EROFS files on loop devices".to_owned()),
        (Attach::File, Err(error)) => {
            (false, format!("EROFS files cannot be mounted as they are (Linux 6.12 can): {error}"))
        }
        (Attach::Loop, Err(error)) => (
            false,
            format!(
                "EROFS cannot be mounted from loop devices either, so layers are unpacked into \
                 directories: {error}"
            ),
        ),
    };
    let subject = match how {
        Attach::File => "image layers: EROFS",
        Attach::Loop => "image layers: EROFS on loop devices",
    };
    // A user namespace may not mount it, whatever the kernel has.
    let module = !works && how == Attach::Loop && !sys::userns::is_confined();
    let mend = module.then(|| "load or build in the erofs module".to_owned());
    Finding { subject: subject.to_owned(), works, detail: what, mend }
}
