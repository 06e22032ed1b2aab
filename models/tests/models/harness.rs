//! Runs a model: as the code is, and with each of its mutations.
//!
//! As the code is, every execution must end well: every order of the threads'
//! steps, and for every load every value that the memory model allows. With a
//! mutation there must be one that does not. A mutated model runs in a process
//! of its own, as its panic may be one that cannot be caught.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use swissdb_models::mutations::MUTATIONS;

use crate::mutant;

/// Names the mutation that this process is to try.
const VARIABLE: &str = "SWISSDB_MODELS_MUTATION";

/// Runs a model without mutations, which must hold, and with each of those
/// that the table lists for it, which must not.
pub(crate) fn check(model: &str, run: fn()) {
    check_within(model, None, run);
}

/// The same in those executions that leave a thread which could go on so many
/// times at most: for what is too large to be run in every way.
pub(crate) fn check_within(model: &str, preemptions: Option<usize>, run: fn()) {
    let mutations = MUTATIONS.iter().filter(|mutation| mutation.model == model);
    if let Ok(name) = std::env::var(VARIABLE) {
        if let Some(mutation) = mutations.into_iter().find(|mutation| mutation.name == name) {
            mutant::set(mutation.name);
            explore(preemptions, run);
        }
        return;
    }
    hold(model, preemptions, run);
    for mutation in mutations {
        assert_fails(model, mutation.name);
    }
}

/// Runs a model without mutations only, with a bound as above.
pub(crate) fn hold_within(model: &str, preemptions: usize, run: fn()) {
    if std::env::var_os(VARIABLE).is_none() {
        hold(model, Some(preemptions), run);
    }
}

fn hold(model: &str, preemptions: Option<usize>, run: fn()) {
    let executions = explore(preemptions, run);
    println!("{model}: {executions} executions hold");
    assert!(executions > 1, "the model {model:?} has only one execution");
}

/// Tries a mutation in another process, which must not end well.
fn assert_fails(model: &str, name: &str) {
    let program = std::env::current_exe().expect("the program knows where it is");
    let mut command = Command::new(program);
    let output = command.arg("--nocapture").env(VARIABLE, name).env_remove("RUST_BACKTRACE");
    // This test alone: what another one says proves nothing about the mutation.
    if let Some(test) = std::thread::current().name().filter(|name| name.contains("::")) {
        output.args(["--exact", test]);
    }
    let output = output.output().expect("a process can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{model}: nothing fails although {name:?}");
    assert!(said.contains("panicked"), "{model}: {name:?} fails without a panic:\n{said}");
    // Nothing is known then: neither that it fails nor that it does not.
    assert!(!said.contains("maximum number of branches"), "{model}: {name:?} does not end");
    println!("{model}: fails as it should: {name}");
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

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Catches a panic that belongs to the model, and prints nothing about it.
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

#[test]
fn no_mutation_belongs_to_two_models() {
    for (i, mutation) in MUTATIONS.iter().enumerate() {
        let other = MUTATIONS[..i].iter().find(|other| other.name == mutation.name);
        assert!(other.is_none_or(|other| other.model == mutation.model), "{:?}", mutation.name);
    }
}
