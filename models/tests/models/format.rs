//! The shapes and bit patterns of the library, with blocks of 256 bytes.

pub(crate) const BLOCK: usize = 256;
pub(crate) const ADDRESS_BYTES: usize = 24;

mod fields {
    //! The real ones.
    include_source!("format_mod");
}

pub(crate) use fields::{u32_at, u64_at};

#[allow(dead_code, unused, clippy::all)]
pub(crate) mod group {
    //! The real one.
    include_source!("format_group");
}

pub(crate) mod directory {
    //! Two limits.
    pub(crate) const MAX_SEGMENT_PAGES: usize = 16;
    pub(crate) const MAX_DEPTH: u8 = 32;
}

pub(crate) mod record {
    //! One name.
    pub(crate) fn log_file_name(number: u32) -> String {
        format!("log/{number:08}.log")
    }
}
