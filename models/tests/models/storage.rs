//! The storage that the sources find: memory made of the checker's atomics.

pub(crate) use map::Map;

pub(crate) mod map {
    //! Memory without a system.
    use std::sync::Arc;

    use loom::sync::atomic::AtomicU64;
    use loom::sync::atomic::Ordering::Relaxed;

    /// Nothing, for there is no cache.
    pub(crate) fn prefetch<T>(_place: &T) {}

    /// A mapping: words, and nothing else. A clone is of the same ones.
    #[derive(Clone, Debug)]
    pub(crate) struct Map(Arc<[AtomicU64]>);

    impl Map {
        pub(crate) fn anonymous(bytes: usize) -> std::io::Result<Map> {
            Ok(Map((0..bytes / 8).map(|_| AtomicU64::new(0)).collect()))
        }

        /// All that is wanted: nobody else wants any.
        pub(crate) fn reserved(most: usize, _: usize) -> std::io::Result<Map> {
            Map::anonymous(most)
        }

        pub(crate) fn want_huge_pages(&self, _: usize, _: usize) {}

        pub(crate) fn populate_write(&self, _: usize, _: usize) {}

        pub(crate) fn wipe_on_fork(&self) -> std::io::Result<()> {
            Ok(())
        }

        pub(crate) fn len(&self) -> usize {
            8 * self.0.len()
        }

        pub(crate) fn words(&self) -> &[AtomicU64] {
            &self.0
        }

        pub(crate) fn first(self) -> Option<Word> {
            Some(Word(self))
        }
    }

    /// The first word of a mapping.
    #[derive(Clone, Debug)]
    pub(crate) struct Word(Map);

    impl std::ops::Deref for Word {
        type Target = AtomicU64;

        fn deref(&self) -> &AtomicU64 {
            &self.0.words()[0]
        }
    }

    pub(crate) fn fill(words: &[AtomicU64], value: u64) {
        words.iter().for_each(|word| word.store(value, Relaxed));
    }

    pub(crate) fn copy_words(from: &[AtomicU64], to: &[AtomicU64]) {
        from.iter().zip(to).for_each(|(from, to)| to.store(from.load(Relaxed), Relaxed));
    }

    /// Copies whole words out.
    pub(crate) fn load_bytes(words: &[AtomicU64], offset: usize, out: &mut [u8]) {
        assert_eq!((offset, out.len() % 8), (0, 0));
        for (word, bytes) in words.iter().zip(out.chunks_mut(8)) {
            bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
    }
}

#[allow(dead_code, unused, clippy::all)]
pub(crate) mod epoch {
    //! The real one.
    include_source!("storage_epoch");
}

#[allow(dead_code, unused, clippy::all)]
pub(crate) mod pins {
    //! The real one.
    include_source!("storage_pins");
}
