//! Ctrl-C, for commands that would leave something half made behind.
//!
//! Such a command asks for an [`Interrupt`] and passes its [`flow`] to the
//! library, which then stops at the next good place and clears up. A second
//! Ctrl-C ends the process where it is. All other commands have nothing to
//! clear up and end at the first.
//!
//! [`flow`]: Interrupt::flow

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit status after Ctrl-C: what shells tell of a process that it killed.
pub const STATUS: u8 = 130;

/// Whether Ctrl-C was pressed since this was made.
pub struct Interrupt {
    pressed: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on Ctrl-C, and being asked to end, are noted first and obeyed
    /// later.
    pub fn noted() -> Interrupt {
        let pressed = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Where that is impossible the process ends at once, as ever. The
            // order matters: the first one finds the flag as it was before.
            let _ = flag::register_conditional_shutdown(signal, STATUS.into(), pressed.clone());
            let _ = flag::register(signal, pressed.clone());
        }
        Interrupt { pressed }
    }

    /// Whether to go on.
    pub fn flow(&self) -> ControlFlow<()> {
        match self.pressed.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
