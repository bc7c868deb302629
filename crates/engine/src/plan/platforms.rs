//! An image for another kind of machine. Pure.

use image::Platform;

use workload::Isolation;

use crate::{Create, EngineError, ImageView};

/// That the wall can be had around the image at all.
///
/// # Errors
/// [`EngineError::Unsupported`].
pub(crate) fn check(create: &Create, image: &ImageView) -> Result<(), EngineError> {
    let runs_processes = match create.isolation {
        Isolation::Container | Isolation::Host | Isolation::Vm => true,
        Isolation::Wasm => false,
    };
    if !runs_processes || image.os == "linux" {
        return Ok(());
    }
    let what = format!("an image for {}/{}", image.os, image.architecture);
    let why = format!("isolation {} runs Linux images", create.isolation);
    Err(EngineError::Unsupported { what, why })
}

/// A word about an image that this host does not run by itself, if nobody asked for its platform.
///
/// Source: moby, `daemon/create.go`.
pub(crate) fn warning(create: &Create, image: &ImageView, host: &Platform) -> Option<String> {
    let built = Platform::new(&image.os, &image.architecture, image.variant.as_deref());
    // What runs in no Linux process has its own walls.
    if create.platform.is_some() || built.os != host.os || built.rank(host).is_some() {
        return None;
    }
    // A later variant of the host's own architecture: whether it runs, the processor says.
    if built.architecture == host.architecture {
        return None;
    }
    Some(format!(
        "The requested image's platform ({built}) does not match the detected host platform \
         ({host}) and no specific platform was requested"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(platform: &str, wanted: Option<&str>) -> Option<String> {
        let Platform { os, architecture, variant } = platform.parse().unwrap();
        let image = ImageView {
            id: String::new(),
            manifest: String::new(),
            references: Vec::new(),
            created: None,
            os,
            architecture,
            size: 0,
            variant,
            target: String::new(),
            layer_bytes: Vec::new(),
            variants: Vec::new(),
            containers: 0,
            layers: Vec::new(),
            config: crate::ImageConfig::default(),
            history: Vec::new(),
            about: crate::ImageAbout::default(),
        };
        let create = Create { platform: wanted.map(str::to_owned), ..Create::default() };
        warning(&create, &image, &"linux/amd64".parse().unwrap())
    }

    #[test]
    fn a_foreign_image_is_worth_a_word_unless_it_was_asked_for() {
        let text = said("linux/arm64", None).unwrap();
        assert_eq!(
            text,
            "The requested image's platform (linux/arm64) does not match the detected host \
             platform (linux/amd64) and no specific platform was requested"
        );
        assert_eq!(said("linux/arm64", Some("linux/arm64")), None);
        assert_eq!(said("windows/amd64", None), None);
        for own in ["linux/amd64", "linux/amd64/v3", "wasi/wasm"] {
            assert_eq!(said(own, None), None, "{own}");
        }
    }
}
