//! What controllers tell a running drill.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// A command of a controller, or a player's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Command {
    /// The drill's clock stands still, and nothing is injected.
    Pause {
        /// Who says so.
        by: String,
    },
    /// It goes on.
    Resume {
        /// Who says so.
        by: String,
    },
    /// An inject is brought about now: one in reserve, or one before its time.
    Inject {
        /// Who says so.
        by: String,
        /// Its id.
        id: String,
    },
    /// Everything of the exercise is cancelled, and the drill ends.
    Abort {
        /// Who says so.
        by: String,
    },
    /// A player says that a message of the controllers was seen.
    Ack {
        /// The role.
        by: String,
        /// The inject.
        inject: String,
    },
    /// An observer judges an expectation.
    Judge {
        /// Who.
        by: String,
        /// The expectation's name.
        expectation: String,
        /// The mark.
        mark: u32,
        /// What the observer writes.
        #[serde(default)]
        remark: String,
    },
    /// How the drill stands.
    Status,
}

/// A command with the way back for its answer: what was done in one sentence, or why not.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<String, String>>,
}
