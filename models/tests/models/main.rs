//! The protocols between threads, each as a model that is run in every way it
//! can be run; see the essay of the package.

/// Takes a source that the build made ready.
macro_rules! include_source {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

mod cleaning;
mod clear;
mod epoch;
mod fences;
mod format;
mod group_commit;
mod harness;
mod hash;
mod log;
mod mirror;
mod mutant;
mod pins;
mod reuse;
mod scan;
mod signals;
mod storage;
mod store;
mod sync;
mod table;
mod version;
mod words;

#[allow(dead_code, unused, missing_docs, clippy::all)]
mod error {
    //! The real one.
    include_source!("error");
}

mod limits {
    //! Limits that errors name.
    pub(crate) const MAX_KEY_LENGTH: usize = 32 << 10;
    pub(crate) const MAX_VALUE_LENGTH: usize = 1 << 30;
}
