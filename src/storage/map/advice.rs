//! What the system is told about memory: which of it is used soon, or densely,
//! or not by children.
//!
//! All of it is advice. Where the system does not take it, everything works,
//! slower; so nothing here reports a failure, but for
//! [`Map::wipe_on_fork`], whose caller has to find forks in another way then.
//! This module does not know what the memory is for. All of it may be called
//! from any thread.

use std::io;

use memmap2::{Advice, MmapRaw, UncheckedAdvice};

use super::{Map, Owner};

impl Map {
    /// Says that a range of bytes is going to be used densely.
    pub(crate) fn want_huge_pages(&self, offset: usize, length: usize) {
        self.advise(Advice::HugePage, offset, length);
    }

    /// Says that who touches a page of a mapped file will soon want those behind
    /// it: the system brings in as many at once as it does for reading.
    pub(crate) fn want_neighbours(&self) {
        if matches!(self.owner, Owner::File(_)) {
            self.advise(Advice::Normal, 0, self.len());
        }
    }

    /// Brings a range of bytes into memory and into the page tables, so that
    /// reading it does not fault. Does what it can and reports nothing.
    pub(crate) fn populate_read(&self, offset: usize, length: usize) {
        self.advise(Advice::PopulateRead, offset, length);
    }

    /// As [`populate_read`](Map::populate_read), for writing. Space in the
    /// file should have been allocated before.
    pub(crate) fn populate_write(&self, offset: usize, length: usize) {
        if self.writable {
            self.advise(Advice::PopulateWrite, offset, length);
        }
    }

    /// Takes a range of bytes of a mapped file out of the page tables. Nothing
    /// that was written there is lost, and whoever touches it faults once. Does
    /// nothing for other memory.
    ///
    /// Before a sync that saves much: the system makes each page read-only that
    /// was written through a mapping, and interrupts all other processors for
    /// each of them, 12 µs a page in a virtual machine; for a range that is
    /// let go it interrupts them once.
    pub(crate) fn let_go(&self, offset: usize, length: usize) {
        let Owner::File(raw) = &self.owner else { return };
        let (offset, length) = self.within(offset, length);
        if length > 0 {
            // SAFETY: the mapping is shared with the file (`Map::file` makes no
            // others), so its bytes stay what they are: the system notes which
            // pages were written and finds them again at the next access.
            // Advice: where it fails, the sync takes longer.
            let _ =
                unsafe { raw.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, length) };
        }
    }

    fn advise(&self, advice: Advice, offset: usize, length: usize) {
        let (offset, length) = self.within(offset, length);
        if let Some(raw) = self.owner.mapping()
            && length > 0
        {
            // Advice: where the kernel is too old for it, pages fault in one by one.
            let _ = raw.advise_range(advice, offset, length);
        }
    }

    /// As much of a range as lies within the map.
    fn within(&self, offset: usize, length: usize) -> (usize, usize) {
        let offset = offset.min(self.len());
        (offset, length.min(self.len() - offset))
    }

    /// Makes a forked child find zeros here instead of a copy.
    ///
    /// # Errors
    ///
    /// `Unsupported` for memory on the heap; what the operating system says
    /// for a map of a file, and before Linux 4.14.
    pub(crate) fn wipe_on_fork(&self) -> io::Result<()> {
        match self.owner.mapping() {
            None => Err(io::ErrorKind::Unsupported.into()),
            Some(raw) => advise_wipe_on_fork(raw),
        }
    }
}

/// `madvise(MADV_WIPEONFORK)`, which memmap2 does not offer.
fn advise_wipe_on_fork(raw: &MmapRaw) -> io::Result<()> {
    use std::ffi::{c_int, c_void};
    /// The same number on every architecture of Linux.
    const MADV_WIPEONFORK: c_int = 18;
    // SAFETY: this is the signature of madvise(2) in the C library, which the
    // standard library links.
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    // SAFETY: the range is a mapping that `raw` owns; the advice changes
    // nothing in this process, only what a child of a fork will find.
    let outcome = unsafe { madvise(raw.as_mut_ptr().cast(), raw.len(), MADV_WIPEONFORK) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
