//! Mapping work, injected into a stopped thread of a stub.

use super::inject;
use super::tracee::Tracee;
use crate::stub::batch::{BatchPages, CAPACITY, Plan, is_hint};
use crate::stub::code::Entries;
use crate::stub::operation::Operation;
use crate::stub::space::{Execute, Shared, refused};
use crate::{MapSource, PlatformError, Result};

/// From this many operations on, a list costs fewer stops than one call each.
const BATCH_FROM: usize = 4;

/// Executes mapping operations in a traced stub.
#[derive(Debug, Default)]
pub struct Injector {
    /// Where lists are written, once there was one.
    pages: Option<BatchPages>,
}

/// An address space of this back end.
pub type Space = crate::stub::space::Space<Injector>;

impl Execute for Injector {
    /// A stopped thread of the stub, and whether it got a signal meanwhile.
    type With<'a> = (&'a Tracee, &'a mut bool);

    fn execute(
        &mut self,
        shared: &Shared,
        (tracee, interrupted): Self::With<'_>,
        operations: &[Operation],
    ) -> Result<()> {
        let needs_list =
            |op: &Operation| matches!(op, Operation::Map { source: MapSource::HostFd(..), .. });
        if operations.len() < BATCH_FROM && !operations.iter().any(needs_list) {
            for operation in operations {
                let mut plan = Plan::default();
                plan.add(operation);
                for call in &plan.calls {
                    match inject::syscall(tracee, Entries::STUB, call, interrupted)? {
                        Err(error) if !is_hint(call) => return Err(refused(error)),
                        _ => {}
                    }
                }
            }
            return Ok(());
        }
        let mut rest = operations;
        while !rest.is_empty() {
            let mut plan = Plan::default();
            let pages = match self.pages.take() {
                Some(pages) => pages,
                None => {
                    let pages = BatchPages::new(&shared.memory)?;
                    inject::syscall(tracee, Entries::STUB, &pages.map_call(), interrupted)?
                        .map_err(refused)?;
                    plan.calls.extend(BatchPages::setup_calls());
                    pages
                }
            };
            let pages = self.pages.insert(pages);
            const { assert!(CAPACITY > 8) };
            while let Some((first, others)) = rest.split_first() {
                if !plan.add(first) {
                    break;
                }
                rest = others;
            }
            pages.write(&plan.calls, plan.descriptors.len())?;
            let transfer = (!plan.descriptors.is_empty()).then(|| shared.link.begin());
            for fd in &plan.descriptors {
                if let Some(transfer) = &transfer {
                    transfer
                        .send(*fd)
                        .map_err(|e| PlatformError::host("send a file descriptor to a stub", e))?;
                }
            }
            let mut next = 0;
            while let Err((failed, error)) =
                inject::batch(tracee, next, plan.calls.len(), interrupted)?
            {
                if !plan.calls.get(failed).is_some_and(is_hint) {
                    return Err(refused(error));
                }
                next = failed + 1;
            }
        }
        Ok(())
    }
}
