//! The wall clock of a running process, behind the domain's `Clock`.

use campanile_alert::time::{Clock, Timestamp};

/// Reads the system's wall clock. Programs make one and hand it to the libraries.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    // The one place that asks the machine for the time.
    #[allow(clippy::disallowed_methods)]
    // The one place that reads the wall clock: everything else is handed a clock.
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
