//! The storage that the sources find: memory made of the checker's atomics.

macro_rules! include_source {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

pub(crate) mod map {
    //! Memory without a system.
    use loom::sync::atomic::AtomicU64;
    use loom::sync::atomic::Ordering::Relaxed;

    /// A mapping: words, and nothing else.
    #[derive(Debug)]
    pub(crate) struct Map(Vec<AtomicU64>);

    impl Map {
        pub(crate) fn anonymous(bytes: usize) -> std::io::Result<Map> {
            Ok(Map((0..bytes / 8).map(|_| AtomicU64::new(0)).collect()))
        }

        pub(crate) fn wipe_on_fork(&self) -> std::io::Result<()> {
            Ok(())
        }

        pub(crate) fn words(&self) -> &[AtomicU64] {
            &self.0
        }
    }

    pub(crate) fn fill(words: &[AtomicU64], value: u64) {
        words.iter().for_each(|word| word.store(value, Relaxed));
    }

    pub(crate) fn prefetch(_: &AtomicU64) {}
}

#[allow(dead_code, clippy::all)]
pub(crate) mod epoch {
    //! The real one.
    include_source!("storage_epoch");
}
