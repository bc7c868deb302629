//! One package, as the list of packages describes it.

use base::Digest;

use super::{
    stanza::{Stanza, StanzaError, Stanzas},
    version,
};

/// Most packages of one list that are looked at closer. Debian has 100 kernels of all kinds.
const PACKAGES_MAX: usize = 10_000;

/// A package of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Where it lies, below the mirror's URL.
    pub(crate) path: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// Of its content.
    pub(crate) digest: Digest,
    /// What it cannot be without.
    pub(crate) depends: String,
}

impl Package {
    /// The packages of a list whose names this function wants. Those whose description is not
    /// complete cannot be fetched, and so are not there.
    pub(crate) fn list(
        source: impl std::io::BufRead,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Package>, StanzaError> {
        let mut stanzas = Stanzas::new(source);
        let mut packages = Vec::new();
        while let Some(stanza) = stanzas.next()? {
            if packages.len() == PACKAGES_MAX {
                break;
            }
            if stanza.get("package").is_some_and(|name| wanted(name)) {
                packages.extend(Package::of(&stanza));
            }
        }
        Ok(packages)
    }

    fn of(stanza: &Stanza) -> Option<Package> {
        let field = |name: &str| stanza.get(name).cloned();
        let path = field("filename").filter(|path| is_below(path))?;
        Some(Package {
            name: field("package")?,
            version: field("version")?,
            path,
            bytes: field("size")?.parse().ok()?,
            digest: Digest::from_hex(&field("sha256")?).ok()?,
            depends: field("depends").unwrap_or_default(),
        })
    }
}

/// Whether a path stays below the mirror and means itself in a URL.
fn is_below(path: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || "/._+~-:".contains(c);
    path.chars().all(right)
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// The latest package of this name.
pub(crate) fn latest<'p>(packages: &'p [Package], name: &str) -> Option<&'p Package> {
    let named = packages.iter().filter(|package| package.name == name);
    named.max_by(|a, b| version::compare(&a.version, &b.version))
}

/// The package that a package with no files of its own stands for: of its dependencies the first
/// whose name begins like that, in the version that it asks for.
pub(crate) fn stands_for<'p>(
    package: &Package,
    prefix: &str,
    packages: &'p [Package],
) -> Option<&'p Package> {
    let (name, wanted) = package.depends.split(',').find_map(|dependency| {
        let dependency = dependency.split('|').next().unwrap_or(dependency).trim();
        let (name, condition) = dependency.split_once(' ').unwrap_or((dependency, ""));
        let name = name.split(':').next().unwrap_or(name);
        let exact = condition.trim().strip_prefix("(=").and_then(|it| it.strip_suffix(')'));
        name.starts_with(prefix).then_some((name, exact.map(str::trim)))
    })?;
    match wanted {
        None => latest(packages, name),
        Some(version) => packages.iter().find(|it| it.name == name && it.version == version),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn stanza(name: &str, version: &str, path: &str, depends: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nDepends: {depends}\nFilename: {path}\n\
             Size: 10\nSHA256: {DIGEST}\n\n"
        )
    }

    fn list(text: &str) -> Vec<Package> {
        Package::list(text.as_bytes(), |name| name.starts_with("linux-image-")).unwrap()
    }

    #[test]
    fn the_latest_kernel_is_found_through_the_package_that_stands_for_it() {
        let meta = "linux-image-cloud-amd64";
        let text = stanza(meta, "6.1.9-1", "pool/a", "linux-image-6.1.0-9-cloud-amd64 (= 6.1.9-1)")
            + &stanza("linux-image-6.1.0-9-cloud-amd64", "6.1.9-1", "pool/9", "kmod")
            + &stanza("other", "1", "pool/o", "")
            + &stanza("linux-image-6.1.0-10-cloud-amd64", "6.1.10-1", "pool/10.1", "kmod")
            + &stanza("linux-image-6.1.0-10-cloud-amd64", "6.1.10-2", "pool/10.2", "kmod")
            + &stanza(
                meta,
                "6.1.10-1",
                "pool/b",
                "kmod, linux-image-6.1.0-10-cloud-amd64:any (= 6.1.10-1) | nothing",
            );
        let packages = list(&text);
        assert_eq!(packages.len(), 5);
        let found = latest(&packages, meta).unwrap();
        assert_eq!(found.version, "6.1.10-1");
        assert_eq!(stands_for(found, "linux-image-", &packages).unwrap().path, "pool/10.1");
        assert_eq!(stands_for(found, "linux-source-", &packages), None);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_not_followed() {
        for bad in
            ["/etc/passwd", "../a", "a/../b", "a//b", "a?b", "a b", "http://x/a", "a#b", "%2e"]
        {
            assert_eq!(list(&stanza("linux-image-a", "1", bad, "")), [], "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_dependencies_are_read(depends in "[a-z0-9|,(:=)<> .-]{0,60}") {
            let packages = list(&stanza("linux-image-a", "1", "pool/a", &depends));
            let _ = stands_for(&packages[0], "linux-", &packages);
        }
    }
}
