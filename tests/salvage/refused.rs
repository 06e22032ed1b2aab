//! Salvage where something of the store may not be read.
//!
//! Goal: what somebody is not allowed to see is an error, and is never called
//! missing or lost. Method: a storage that refuses one of its names, as the
//! file system does for users without the right; the tests may run as one who
//! has every right.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use swissdb::storage::files::Files;
use swissdb::storage::memory::Memory;
use swissdb::{Db, Error, Options};

use super::go_on;
use crate::support::Gate;

#[test]
fn what_may_not_be_read_is_an_error_and_not_lost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(directory.path()).expect("open");
    db.insert("long", vec![7; 1000]).expect("insert");
    db.close().expect("close");
    let salvaged = |refused: &'static str| {
        let warden = move |name: &str, _: Range<u64>| match name == refused {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        };
        let files = Arc::new(Files::new(directory.path()));
        let source = Arc::new(Gate::refusing(files, Arc::new(warden)));
        Options::new().salvage_on(source, Arc::new(Memory::new()), go_on)
    };
    for name in ["log", "log/00000001.log", "default.swiss"] {
        let error = salvaged(name).expect_err(name);
        let told = format!("{}: permission denied; change who may read", name);
        assert!(matches!(error, Error::Io { .. }), "{name}: {error}");
        assert!(error.to_string().contains(&told), "{name}: {error}");
    }
    let report = salvaged("nothing").expect("a salvage");
    assert_eq!((report.entries, report.lost_anything()), (1, false));
}
