//! Which sources of the library the models run, and what is replaced in them.

/// A source, or some of its functions.
pub struct Source {
    /// What the copy is called.
    pub name: &'static str,
    /// Its path below `src`.
    pub file: &'static str,
    /// The functions that are taken; none stands for the whole file.
    pub functions: &'static [&'static str],
    /// What stands around the functions.
    pub before: &'static str,
    /// The end of that.
    pub after: &'static str,
    /// What is replaced, wherever it stands.
    pub replace: &'static [(&'static str, &'static str)],
}

const WHOLE: Source =
    Source { name: "", file: "", functions: &[], before: "", after: "", replace: &[] };

/// All of them.
pub const SOURCES: &[Source] = &[
    Source { name: "storage_epoch", file: "storage/epoch.rs", replace: &[("const PAGE: usize = 4096", "const PAGE: usize = 8")], ..WHOLE },
];
