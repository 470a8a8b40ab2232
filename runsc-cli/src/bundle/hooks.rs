//! Hooks of the point `startContainer`, which the sandbox runs; those of other points run on the host
//! ([`crate::container::hooks`]).

use crate::state::OCI_VERSION;
use anyhow::bail;
use oci_spec::runtime::{Hook, Spec};
use sentry::boot::{HookSpec, HooksSpec};
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Translates them, with the state that each of them is told.
pub fn inside(spec: &Spec, bundle: &Path, id: &str) -> anyhow::Result<HooksSpec> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_deref());
    let env = spec.process().as_ref().and_then(|process| process.env().clone());
    let hooks = hooks.unwrap_or_default().iter().map(|hook| translate(hook, &env));
    let list = hooks.collect::<anyhow::Result<Vec<_>>>()?;
    if list.is_empty() {
        return Ok(HooksSpec::default());
    }
    // The process id is that of the container's first process as the hook sees it.
    let state = json!({
        "ociVersion": OCI_VERSION,
        "id": id,
        "status": "created",
        "pid": 1,
        "bundle": bundle,
        "annotations": spec.annotations(),
    });
    Ok(HooksSpec { list, state: state.to_string().into_bytes() })
}

fn translate(hook: &Hook, inherited: &Option<Vec<String>>) -> anyhow::Result<HookSpec> {
    if !hook.path().is_absolute() {
        bail!("startContainer hook {}: its path is not absolute", hook.path().display());
    }
    let bytes = |list: &Option<Vec<String>>| -> Vec<Vec<u8>> {
        list.iter().flatten().map(|text| text.as_bytes().to_vec()).collect()
    };
    Ok(HookSpec {
        path: hook.path().as_os_str().as_bytes().to_vec(),
        args: bytes(hook.args()),
        // As runc: without an environment of its own it has that of the process.
        env: bytes(if hook.env().is_some() { hook.env() } else { inherited }),
        timeout: hook.timeout().map(|seconds| u64::try_from(seconds).unwrap_or(0)),
    })
}
