//! The protocols between threads, each as a model that is run in every way it
//! can be run; see the essay of the package.

mod epoch;
mod harness;
mod mutant;
mod storage;
mod sync;
