//! Salvage where something of the store may not be read.
//!
//! Goal: what somebody is not allowed to see is an error, and is never called
//! missing or lost. Method: a storage that refuses one of its names, as the
//! file system does for users without the right; the tests may run as one who
//! has every right.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use swissdb::storage::files::Files;
use swissdb::storage::memory::Memory;
use swissdb::storage::{Access, File, LockOutcome, Storage};
use swissdb::{Db, Error, Options};

/// Files, of which one name is refused.
struct Refusing(Files, &'static str);

impl Refusing {
    fn allow(&self, name: &str) -> io::Result<()> {
        match name == self.1 {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        }
    }
}

impl Storage for Refusing {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.allow(name)?;
        self.0.open(name, access)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.allow(directory)?;
        self.0.list(directory)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn create_directory(&self, directory: &str) -> io::Result<()> {
        self.0.create_directory(directory)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.0.sync_directory(directory)
    }

    fn lock(&self, exclusive: bool) -> io::Result<LockOutcome> {
        self.0.lock(exclusive)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

#[test]
fn what_may_not_be_read_is_an_error_and_not_lost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(directory.path()).expect("open");
    db.insert("long", vec![7; 1000]).expect("insert");
    db.close().expect("close");
    let salvaged = |refused| {
        let source = Arc::new(Refusing(Files::new(directory.path()), refused));
        let target = Arc::new(Memory::new());
        Options::new().salvage_on(source, target, |_| std::ops::ControlFlow::Continue(()))
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
