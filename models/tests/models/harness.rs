//! Runs a model: as the code is, and with each of its mutations.
//!
//! As the code is, every execution must end well: every order of the threads'
//! steps, and for every load every value that the memory model allows. With a
//! mutation there must be one that does not.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use swissdb_models::mutations::MUTATIONS;

use crate::mutant;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// The names of the models that are run: a mutation of any other is an error.
pub(crate) fn mutations_of(model: &str) -> Vec<&'static str> {
    MUTATIONS.iter().filter(|m| m.model == model).map(|m| m.name).collect()
}

/// Runs a model without mutations, which must hold, and with each of those
/// that the table lists for it, which must not.
pub(crate) fn check(model: &str, run: fn()) {
    check_within(model, None, run);
}

/// The same, with at most so many switches away from a thread that could go
/// on. Where it is `None`, nothing is left out.
pub(crate) fn check_within(model: &str, preemptions: Option<usize>, run: fn()) {
    let names = mutations_of(model);
    assert!(!names.is_empty(), "no mutation is listed for the model {model:?}");
    mutant::set(None);
    let executions = explore(preemptions, run);
    println!("{model}: {executions} executions hold");
    assert!(executions > 1, "the model {model:?} has only one execution");
    for name in names {
        mutant::set(Some(name));
        let outcome = silently(|| explore(preemptions, run));
        mutant::set(None);
        if let Ok(executions) = outcome {
            panic!("{model}: nothing fails although {name:?}, in {executions} executions");
        }
        println!("{model}: fails as it should: {name}");
    }
}

fn explore(preemptions: Option<usize>, run: fn()) -> usize {
    let executions = Arc::new(AtomicUsize::new(0));
    let count = executions.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        run();
    });
    executions.load(Ordering::Relaxed)
}

/// Catches a panic and prints nothing about it.
pub(crate) fn silently<T>(run: impl FnOnce() -> T) -> std::thread::Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            if !SILENT.with(Cell::get) {
                loud(info);
            }
        }));
    });
    let before = SILENT.with(|silent| silent.replace(true));
    let outcome = catch_unwind(AssertUnwindSafe(run));
    SILENT.with(|silent| silent.set(before));
    outcome
}
