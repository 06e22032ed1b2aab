//! Models of the protocols between the threads of swissdb.
pub mod mutations;
pub mod sources;
