//! Looks at an open store: numbers, a look at every entry, a check of everything.
//!
//! What is found is returned and nothing is changed. What the numbers mean is
//! told where they are defined: in `stats`, `survey`, `census` and `verify`.

use crate::census::Census;
use crate::error::Result;
use crate::stats::Stats;
use crate::survey::Survey;
use crate::verify::Report;

use super::Db;

impl Db {
    /// What the store consists of, and what it has done since it was opened.
    /// Takes the writer lock for a moment. In a forked child, all is zero.
    pub fn stats(&self) -> Stats {
        crate::stats::collect(self.store())
    }

    /// Looks at every entry of the default table: sizes of keys and values, how
    /// far searches go, how segments are filled. `progress` is called now and
    /// then with the number of entries counted so far.
    ///
    /// Takes about as long as reading the table file once. Readers go on, and a
    /// writer waits for one segment at most; what changes meanwhile is counted
    /// as it is when its turn comes.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// db.insert("apple", "red")?;
    /// db.insert("banana", "yellow")?;
    /// let survey = db.survey(|_entries| ())?;
    /// assert_eq!(survey.census.entries, 2);
    /// assert_eq!(survey.census.key_bytes.max(), Some(6));
    /// assert_eq!(survey.census.value_bytes.mean(), 4.5);
    /// assert_eq!(survey.inline, 2); // both fit their slots
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Io`](crate::Error::Io).
    /// Damage is no error: what cannot be read is counted as
    /// [`Census::unreadable`] and passed over.
    pub fn survey(&self, mut progress: impl FnMut(u64)) -> Result<Survey> {
        crate::survey::take(self.store(), &self.table, &mut progress)
    }

    /// How long keys and values are, and which slot payload would make the
    /// default table smallest. Looks at every slot, a segment at a time, and
    /// reads nothing of the log; writers go on, and what they change meanwhile
    /// may be counted or not.
    ///
    /// ```
    /// let db = swissdb::Db::in_memory()?;
    /// for i in 0..1000u32 {
    ///     db.insert(i.to_be_bytes(), [1; 20])?;
    /// }
    /// assert_eq!(db.census()?.entries, 1000);
    /// # Ok::<(), swissdb::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Io`](crate::Error::Io);
    /// damaged segments are counted and passed over.
    pub fn census(&self) -> Result<Census> {
        crate::census::take(self.store(), &self.table, &mut |_| ())
    }

    /// Checks everything: every page, every entry, every spilled value, the
    /// log and all sums. Finds every violation, not only the first. Writers
    /// wait meanwhile; it takes as long as reading the store.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Io`](crate::Error::Io);
    /// damage is not an error but in the report.
    pub fn verify(&self) -> Result<Report> {
        crate::verify::verify_store(self.store())
    }
}
