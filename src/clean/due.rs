//! Cleaning as long as it is due.

use crate::error::Result;
use crate::store::Store;
use crate::store::space::Behind;

use super::{Cleaner, Zeal};

impl Cleaner {
    /// Cleans the log as long as there is too much garbage in it. To be called
    /// by whoever has the turn to clean.
    pub(crate) fn clean_while_due(&mut self, store: &Store) -> Result<()> {
        let outcome = self.go_on_while_due(store);
        store.space.set_behind(Behind::Cleaner, false);
        outcome
    }

    fn go_on_while_due(&mut self, store: &Store) -> Result<()> {
        while !store.space.is_stopped() {
            store.space.looked();
            let balance = self.balance(store);
            if !balance.is_due() {
                break;
            }
            if balance.wants_checkpoint() {
                if balance.is_late() {
                    store.space.set_behind(Behind::Checkpoint, true);
                }
                // Its end ends the waiting, and leads to another look.
                store.signals.request();
                break;
            }
            if !balance.wants_cleaning() {
                break;
            }
            let behind = balance.is_past_bound() || balance.is_late();
            store.space.set_behind(Behind::Cleaner, behind);
            if !self.step(store, &balance, Zeal::Upkeep)? {
                break;
            }
        }
        Ok(())
    }
}
