//! What of the store is modelled.

#[allow(dead_code, unused, clippy::all)]
mod signals {
    //! The real one.
    include_source!("store_signals");
}

pub(crate) use signals::Signals;
