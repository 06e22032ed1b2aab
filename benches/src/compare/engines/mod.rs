//! The stores that are compared, an adapter each.
//!
//! The maps and swissdb are always there, the peers with the cargo feature
//! `peers`, RocksDB with `rocksdb`. A store that was not built is known by name
//! all the same: its place in the results says why it is empty. A variant of a store
//! that is measured only when it is asked for says so here.

#[cfg(feature = "peers")]
mod fjall;
#[cfg(feature = "peers")]
mod lmdb;
mod map;
#[cfg(feature = "peers")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "peers")]
mod sled;
mod swiss;

use std::path::Path;

use crate::Outcome;

use super::store::Store;

/// What is known of a store without opening it.
pub struct Known {
    /// What it is called.
    pub name: &'static str,
    /// Its package, whose version is told.
    pub package: &'static str,
    /// The cargo feature that builds it, if it needs one.
    pub feature: Option<&'static str>,
    /// Whether it was built.
    pub built: bool,
    /// Whether it keeps anything when the process ends.
    pub on_disk: bool,
    /// Whether it takes part only where it is asked for by its name.
    pub only_asked: bool,
}

/// One of ours.
const fn ours(name: &'static str, only_asked: bool) -> Known {
    Known { name, package: "swissdb", feature: None, built: true, on_disk: true, only_asked }
}

/// A store that is built with a feature of `cargo`.
const fn with(
    feature: &'static str,
    built: bool,
    name: &'static str,
    package: &'static str,
) -> Known {
    Known { name, package, feature: Some(feature), built, on_disk: true, only_asked: false }
}

/// A map in memory.
const fn in_memory(name: &'static str, package: &'static str) -> Known {
    Known { name, package, feature: None, built: true, on_disk: false, only_asked: false }
}

/// All stores, in the order in which the first round takes them.
pub const ALL: [Known; 10] = [
    ours("swissdb", false),
    ours("swissdb-default", true),
    with("peers", cfg!(feature = "peers"), "redb", "redb"),
    with("peers", cfg!(feature = "peers"), "lmdb", "heed"),
    with("peers", cfg!(feature = "peers"), "lmdb-writemap", "heed"),
    with("peers", cfg!(feature = "peers"), "fjall", "fjall"),
    with("peers", cfg!(feature = "peers"), "sled", "sled"),
    with("rocksdb", cfg!(feature = "rocksdb"), "rocksdb", "rocksdb"),
    in_memory("HashMap", "std"),
    in_memory("hashbrown", "hashbrown"),
];

/// Something to do with a store of any kind.
pub trait Deed {
    /// Does it.
    fn with<S: Store>(self) -> Outcome;
}

/// Does something with the store of this name.
pub fn with_store(name: &str, deed: impl Deed) -> Outcome {
    match name {
        "swissdb" => deed.with::<swiss::Swiss<false>>(),
        "swissdb-default" => deed.with::<swiss::Swiss<true>>(),
        "HashMap" => deed.with::<map::StdMap>(),
        "hashbrown" => deed.with::<map::Hashbrown>(),
        #[cfg(feature = "peers")]
        "redb" => deed.with::<redb::Redb>(),
        #[cfg(feature = "peers")]
        "lmdb" => deed.with::<lmdb::Lmdb<false>>(),
        #[cfg(feature = "peers")]
        "lmdb-writemap" => deed.with::<lmdb::Lmdb<true>>(),
        #[cfg(feature = "peers")]
        "fjall" => deed.with::<fjall::Fjall>(),
        #[cfg(feature = "peers")]
        "sled" => deed.with::<sled::Sled>(),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => deed.with::<rocksdb::Rocks>(),
        other => Err(format!("there is no store {other} in this build").into()),
    }
}

/// The version of a store: of its package and, where that is a way to a library of
/// another language, of the library. `scratch` is a directory that is not there yet.
#[cfg_attr(not(feature = "rocksdb"), expect(unused_variables))]
pub fn version_of(known: &Known, scratch: &Path) -> Outcome<String> {
    let package = version(known.package);
    let library: Option<String> = match known.name {
        #[cfg(feature = "peers")]
        "lmdb" | "lmdb-writemap" => {
            let of = heed::lmdb_version();
            Some(format!("{}.{}.{}", of.major, of.minor, of.patch))
        }
        #[cfg(feature = "rocksdb")]
        "rocksdb" => {
            let version = rocksdb::version(scratch);
            std::fs::remove_dir_all(scratch)?;
            version
        }
        _ => None,
    };
    Ok(library
        .map_or(package.clone(), |library| format!("{library} by {} {package}", known.package)))
}

/// The version of a package in the lock file that this was built with.
pub fn version(package: &str) -> String {
    let lock = include_str!("../../../../Cargo.lock");
    let name = format!("name = \"{package}\"");
    let versions = lock.split("[[package]]").filter(|part| part.lines().any(|line| line == name));
    let of = |part: &str| {
        let line = part.lines().find_map(|line| line.strip_prefix("version = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    // Of several versions of a package, the newest is the one used here.
    versions.filter_map(of).last().unwrap_or_else(|| "of the toolchain".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{ALL, version};

    #[test]
    fn the_version_of_every_store_is_known() {
        for known in &ALL {
            let version = version(known.package);
            let is_number = version.split('.').count() >= 3;
            assert_eq!(is_number, known.package != "std", "{}: {version}", known.name);
        }
    }
}
