//! The commands, one file each (or one for two that belong together).
//!
//! Every file holds the arguments of its command, whose doc comments are the
//! help text, and a function that runs it. Commands know the helpers, never
//! each other.

pub mod alter;
pub mod backup;
pub mod check;
pub mod compact;
pub mod dump;
pub mod inspect;
pub mod load;
pub mod map;
pub mod query;
pub mod salvage;
pub mod scan;
pub mod stats;
