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

/// Pages of one group, so that few words have to be followed.
const SMALL_BLOCK: &[(&str, &str)] = &[
    ("const _: () = assert!(ADDRESS_BYTES == 24 && PAGE_WORDS == 512);", ""),
    ("const _: () = assert!(PAGE_WORDS / (CONTROL_WORDS + MAX_SLOT_WORDS * 8) == 1);", ""),
];

/// All of them.
pub const SOURCES: &[Source] = &[
    Source { name: "error", file: "error.rs", ..WHOLE },
    Source {
        name: "storage_epoch",
        file: "storage/epoch.rs",
        replace: &[("const PAGE: usize = 4096", "const PAGE: usize = 8")],
        ..WHOLE
    },
    Source { name: "format_group", file: "format/group.rs", replace: SMALL_BLOCK, ..WHOLE },
    Source { name: "table_layout", file: "table/layout.rs", ..WHOLE },
    Source {
        name: "table_arena",
        file: "table/arena.rs",
        replace: &[
            ("if cfg!(miri) { 1 << 14 } else { 1 << 28 }", "16"),
            ("RESERVED_LEAST: usize = 1 << 12", "RESERVED_LEAST: usize = RESERVED"),
            ("std::sync::atomic::fence", "crate::sync::atomic::fence"),
        ],
        ..WHOLE
    },
    Source {
        name: "table_mirror",
        file: "table/mirror.rs",
        replace: &[
            ("if cfg!(miri) { 1 << 16 } else { 16 << 30 }", "16 * 2 * 8"),
            ("RESERVED_LEAST: usize = 1 << 16", "RESERVED_LEAST: usize = RESERVED"),
        ],
        ..WHOLE
    },
    Source {
        name: "table_flat",
        file: "table/flat.rs",
        // Prefixes of two bits at most.
        replace: &[
            ("MAX_DEPTH: u8 = if cfg!(miri) { 10 } else { 24 }", "MAX_DEPTH: u8 = 2"),
            ("MAX_DEPTH_LEAST: u8 = 10", "MAX_DEPTH_LEAST: u8 = 2"),
            ("use super::directory::Leaf;", "use super::Leaf;"),
        ],
        ..WHOLE
    },
    Source { name: "table_places", file: "table/read/places.rs", ..WHOLE },
    Source {
        name: "table_maps",
        file: "table/maps.rs",
        replace: &[
            ("const MAPS: usize = 48", "const MAPS: usize = 2"),
            ("[const { OnceLock::new() }; MAPS]", "std::array::from_fn(|_| OnceLock::new())"),
            ("pub(super) fn", "pub(crate) fn"),
            ("current: 0.into()", "current: AtomicUsize::new(0)"),
        ],
        ..WHOLE
    },
    Source {
        name: "table_frames",
        file: "table/frames.rs",
        // Whoever brings in memory ahead is not there.
        replace: &[
            ("std::sync::Arc", "crate::sync::Arc"),
            ("pub(crate) use ahead::Ahead;", ""),
            ("ahead::TOLD_EVERY", "usize::MAX"),
            ("self.frames.tell(self.infos.len());", ""),
        ],
        ..WHOLE
    },
    Source {
        name: "table_read",
        file: "table/read.rs",
        // One attempt for each lookup: that it starts over is an outcome.
        replace: &[(
            "Err(stop) => self.recover(stop, seen)?,",
            "Err(stop) => { self.recover(stop, seen)?; return Err(super::started_over()); }",
        )],
        ..WHOLE
    },
    Source { name: "table_glance", file: "table/read/glance.rs", ..WHOLE },
    Source {
        name: "table_segment",
        file: "table/segment.rs",
        functions: &[
            "lengths",
            "address",
            "key_is",
            "spilled_key_is",
            "hash_of",
            "hash_of_any",
            "hash_inline",
            "fill_slot",
            "clear_slot",
            "set_control_line",
            "under_version",
        ],
        ..WHOLE
    },
    Source {
        name: "table_mod",
        file: "table/mod.rs",
        functions: &["structure", "descriptor", "any_descriptor", "page_words", "hasher"],
        before: "impl Table {\n",
        after: "}\n",
        replace: &[],
    },
    Source {
        name: "table_mod_check",
        file: "table/mod.rs",
        functions: &["verify_page", "check_page", "mirror_page", "lost_block"],
        before: "impl Table {\n",
        after: "}\n",
        replace: &[],
    },
    Source {
        name: "table_mod_writer",
        file: "table/mod.rs",
        functions: &["read_page"],
        before: "impl Writer {\n",
        after: "}\n",
        replace: &[],
    },
    Source {
        name: "table_directory",
        file: "table/directory.rs",
        functions: &[
            "root",
            "set_root",
            "change_root",
            "copy_words",
            "root_word",
            "word_under",
            "root_words",
            "array",
            "record",
            "leaf",
            "take_lines",
            "new_descriptor",
            "new_record",
            "make_array",
            "fill_array",
            "store_leaf",
            "store_root_words",
            "new_root",
            "double_root",
        ],
        before: "impl Table {\n",
        after: "}\n",
        replace: &[],
    },
    Source { name: "log_poison", file: "log/poison.rs", ..WHOLE },
    Source { name: "log_crowd", file: "log/crowd.rs", ..WHOLE },
    Source {
        name: "log_sync",
        file: "log/sync.rs",
        replace: &[
            (
                "use std::time::{Duration, Instant};",
                "use super::time::Instant; use std::time::Duration;",
            ),
            // Page tables are not modelled.
            ("let let_go = if this.options.append_by_call { 0..0 } else { log.let_go() };", ""),
            ("log.take_back(let_go);", ""),
        ],
        ..WHOLE
    },
    Source {
        name: "store_signals",
        file: "store/signals.rs",
        replace: &[("std::thread::sleep(", "let _ = (")],
        ..WHOLE
    },
    Source {
        name: "storage_pins",
        file: "storage/pins.rs",
        replace: &[
            (
                "static EPOCH: AtomicU64 = AtomicU64::new(1);",
                "loom::lazy_static! { static ref EPOCH: AtomicU64 = AtomicU64::new(1); }",
            ),
            (
                "static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());",
                "loom::lazy_static! { static ref SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut()); }",
            ),
            (
                "static LIMBO: Mutex<Vec<Limbo>> = Mutex::new(Vec::new());",
                "loom::lazy_static! { static ref LIMBO: Mutex<Vec<Limbo>> = Mutex::new(Vec::new()); }",
            ),
            ("thread_local! {", "loom::thread_local! {"),
            ("= const { Local(Cell::new(None)) };", "= Local(Cell::new(None));"),
            // Values end, and say so; their memory stays, as mutated models
            // would use it.
            ("dyn Send + Sync)", "dyn crate::pins::Ends)"),
            ("T: Send + Sync + 'static", "T: crate::pins::Ends"),
            ("drop(unsafe { Box::from_raw(self.value) });", "unsafe { &mut *self.value }.end();"),
            ("*self.current.get_mut()", "self.current.with_mut(|pointer| *pointer)"),
        ],
        ..WHOLE
    },
    Source {
        name: "table_scan",
        file: "table/scan.rs",
        replace: &[("const TRIES: usize = 16", "const TRIES: usize = 1"), ("0..64", "0..1")],
        ..WHOLE
    },
    Source {
        name: "table_segment_methods",
        file: "table/segment.rs",
        functions: &["impl Table: group", "impl Table: slot", "mirror_group"],
        before: "impl Table {\n",
        after: "}\n",
        replace: &[],
    },
    Source {
        name: "table_segment_writer",
        file: "table/segment.rs",
        functions: &["group_of", "write_slot", "erase_slot"],
        before: "impl Writer {\n",
        after: "}\n",
        replace: &[],
    },
    Source { name: "format_mod", file: "format/mod.rs", functions: &["u32_at", "u64_at"], ..WHOLE },
];
