//! A root file system in an image instead of a directory: annotations `dev.gvisor.spec.rootfs.*`.

use anyhow::{Context, bail};
use oci_spec::runtime::Spec;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PREFIX: &str = "dev.gvisor.spec.rootfs.";
/// Where the super block of an EROFS image stands, and how it begins.
const SUPER_OFFSET: u64 = 1024;
const SUPER_MAGIC: [u8; 4] = [0xe2, 0xe1, 0xf5, 0xe0];
/// Bits of its incompatible features that can be read: files in chunks, long prefixes of attributes. The lowest bit
/// is set where files are compressed.
const KNOWN_FEATURES: u32 = 0x44;

/// An image that becomes the root.
pub struct RootImage {
    /// The image, open for reading.
    pub file: File,
    /// Whether there is an overlay for what is written, if the annotations say so.
    pub overlay: Option<bool>,
}

/// The image that the annotations name, if they do.
pub fn image(spec: &Spec, bundle: &Path) -> anyhow::Result<Option<RootImage>> {
    let get = |name: &str| {
        let annotations = spec.annotations().as_ref()?;
        annotations.get(&format!("{PREFIX}{name}")).map(String::as_str)
    };
    let (source, kind, overlay) = (get("source"), get("type"), get("overlay"));
    let Some(source) = source else {
        if kind.is_some() || overlay.is_some() {
            bail!("annotation {PREFIX}source is missing: it names the image of the root");
        }
        return Ok(None);
    };
    match kind {
        Some("erofs") => {}
        Some(other) => bail!("annotation {PREFIX}type: {other:?} is not supported: only erofs is"),
        None => bail!("annotation {PREFIX}type is missing: it must be erofs"),
    }
    let overlay = match overlay {
        None => None,
        Some("none") => Some(false),
        Some("memory") => Some(true),
        Some(other) => bail!(
            "annotation {PREFIX}overlay: {other:?} is not supported: it can be memory or none"
        ),
    };
    let path = bundle.join(source);
    let file = open(&path).with_context(|| format!("the root image {}", path.display()))?;
    Ok(Some(RootImage { file, overlay }))
}

/// Opens an image, after a look at what it is.
fn open(path: &Path) -> anyhow::Result<File> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        bail!("it is not a regular file");
    }
    let mut head = [0; 128];
    file.read_exact_at(&mut head, SUPER_OFFSET).context("it is not an EROFS image")?;
    if !head.starts_with(&SUPER_MAGIC) {
        bail!("it is not an EROFS image");
    }
    let [.., a, b, c, d] = *head.first_chunk::<84>().unwrap_or(&[0; 84]);
    let features = u32::from_le_bytes([a, b, c, d]);
    if features & !KNOWN_FEATURES != 0 {
        bail!(
            "it uses features of EROFS that are not supported ({:#x}), such as compression or further devices: \
             make it with mkfs.erofs and without -z and -E",
            features & !KNOWN_FEATURES
        );
    }
    Ok(file)
}
