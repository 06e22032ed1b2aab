//! The table of mutations: what must not be left out, and which model notices.

/// A mutation of a protocol.
pub struct Mutation {
    /// What is wrong with the protocol then.
    pub name: &'static str,
    /// The model that must fail.
    pub model: &'static str,
    /// What is mutated.
    pub place: Place,
}

/// What a mutation changes.
pub enum Place {
    /// A piece of a function of the library.
    Source {
        /// The path below `src`.
        file: &'static str,
        /// The function.
        function: &'static str,
        /// What stands there, once.
        original: &'static str,
        /// What stands there instead.
        mutant: &'static str,
    },
    /// A step of the model itself, which stands for one of the library.
    Model,
}

const fn source(
    model: &'static str,
    name: &'static str,
    file: &'static str,
    function: &'static str,
    (original, mutant): (&'static str, &'static str),
) -> Mutation {
    Mutation { name, model, place: Place::Source { file, function, original, mutant } }
}

const EPOCH: &str = "storage/epoch.rs";

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    source("epoch", "the epoch is read relaxed", EPOCH, "read", ("Acquire", "Relaxed")),
    source("epoch", "no fence before the second look at the epoch", EPOCH, "unchanged", ("fence(Acquire);", "")),
    source("epoch", "the epoch advances relaxed", EPOCH, "advance", ("Release", "Relaxed")),
    source("epoch", "no fence behind the advance of the epoch", EPOCH, "advance", ("fence(SeqCst);", "")),
];
