//! Models of the protocols between the threads of swissdb.
//!
//! A fence that is missing, or an order that is too weak, breaks a program once
//! in a month, on another processor. So every protocol of design section 6 that
//! does without a lock, and those of the log in which threads wait for each
//! other, are run here by a checker ([loom](https://docs.rs/loom)) in every way
//! they can be run: every order of the threads' steps, and for every load every
//! value that the memory model of Rust allows.
//!
//! # The library's own code
//!
//! The models do not repeat the library. The build copies its sources, whole or
//! some of their functions ([`sources`]), and puts the checker's atomics and
//! locks in the place of the standard ones. So the lookup that is checked is
//! `table/read.rs`, from the epoch to the copy of the slot; group commit is
//! `log/sync.rs`. Only the surroundings are small: pages of 256 bytes with one
//! group, keys of eight bytes, a log that remembers what was synced. What
//! stands for a step of the library names it.
//!
//! # Mutations
//!
//! A model that cannot fail shows nothing. So [`mutations`] lists what must not
//! be left out: a fence, an order, a second look. The build makes a choice of
//! each such piece, and the model is run once with each mutation, and must
//! fail. A piece that is no longer there ends the build; a fence in the library
//! that is not in the list fails a test. That list is the table of what holds
//! the protocols together:
//!
//! | in the source | model | what fails without it |
//! |---|---|---|
//! | `segment::under_version`: odd, fence, even | version | a torn slot |
//! | `read::search_group`, `is_unchanged_since`: two fences, two looks | version | a torn slot |
//! | `glance`: the same | version, lookup, a glance | the same |
//! | `scan::copy_group`: two fences | scan | a torn slot |
//! | `scan::copy_segment`: all groups once more | scan, two groups | an entry twice |
//! | `epoch::read`, `advance`, `unchanged` | epoch, lookup | words of another page are believed |
//! | `frames::take`, `reclaim` | frames, lookup | the same |
//! | `arena::take` | lines | words of another structure are believed |
//! | `layout::store_u32` | page word | a page that is half copied |
//! | `layout::two_page_words`, `maps::publish` | doubled mapping | a block beyond the mapping |
//! | `layout::exchange_u32` | unverified | a copied page is lost |
//! | `directory::store_leaf`, `read::descend` | directory word | a key that is there is not found |
//! | `directory::store_root_words` | root word | the same |
//! | `directory::set_root`, `read::attempt` | root | the same |
//! | `flat::find`, `deepen` | flat, a longer one | the same |
//! | `directory::change_root`: nothing is found meanwhile | clear, the flat directory | an entry from before a clear |
//! | `segment::write_slot`, `erase_slot`: a copy with its control word | mirror, a removed entry | a lookup and a glance contradict each other |
//! | `glance::absent`: the second look | mirror, a line used again | a key that is there is not found |
//! | `Table::verify_page`, `mirror::set_unknown` | mirror, a checked page | a copy is not what its control word is |
//! | `directory::new_descriptor`: copies are forgotten | mirror, a line loaded again | the same |
//! | `pins::pin`, its drop, `advance`, `quiescent` | pins | a value ends under its reader |
//! | `Writer::put`, `log::retire`, `while_it_changes`: their order | cleaner | bytes of a file's next life; damage where there is none |
//! | `Store::insert`: the hash under the lock | clear, writers | an entry that is put and not found |
//! | `frames::reclaim` after a clear | clear | words of another page are believed |
//! | `sync::begin`, `sync_files`, `Leader` | group commit, a leader that fails or panics | acknowledged and lost; asleep for ever |
//! | `sync::wake`, `wait_for_sync`, `gather` | three who sync, three who fail, a crowd | asleep for ever; two syncs at once |
//! | `signals` | signals | asleep for ever |
//!
//! # What is not shown
//!
//! * Some things are there twice, and only leaving out both fails: the fences of
//!   `pins::advance` and `quiescent`; and whoever has checked a page looks at its
//!   word and at the epoch again, and replaces no copy, any two of which would
//!   do. Others are implied: the `Acquire` with which a pin loads the epoch, by
//!   the fence behind it; and the order of a word of the flat directory, for whoever
//!   sees nothing yet of the segment that it leads to finds no copy in the mirror,
//!   or no lengths like the key's, and looks it up by the root.
//! * The checker takes sequentially consistent loads and stores for weaker ones;
//!   the fences it knows. It remembers the last seven values of an atomic.
//! * Writing to a file is no atomic store, and the file of a table is seen
//!   through a mapping; that the epoch is ahead of it rests on the processor.
//! * The flag by which the appender wakes the keepers has no fence on purpose
//!   (see `log/keeper.rs`): there time decides, which no model knows.

pub mod mutations;
pub mod sources;
