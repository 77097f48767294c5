//! The wall clock of a running process, behind the domain's `Clock`.

use campanile_alert::time::{Clock, Timestamp};

/// Reads the system's wall clock. Programs make one and hand it to the libraries.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
