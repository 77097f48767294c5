//! `drill run --live --watch`: the drill as a timeline that fills the terminal while it runs.
//!
//! It is drawn on stderr, so that stdout stays what it is without it. Keys do nothing: a drill is steered with its verbs,
//! by whoever may, and Ctrl-C calls it off. When it is over the terminal is as it was before.

use std::io::{IsTerminal as _, Stderr, stdin};
use std::time::{Duration, Instant};

use campanile_drill::Scenario;
use campanile_drill::live::Line;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};

use self::board::Board;
use crate::failure::failure;

mod board;

/// How often it is drawn at most.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// The terminal while it shows a drill. Dropping it gives the terminal back.
pub(super) struct Watch<'a> {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    _quiet: Option<Quiet>,
    board: Board<'a>,
    drawn: Option<Instant>,
}

impl<'a> Watch<'a> {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When stderr is no terminal, or cannot be drawn on.
    pub(super) fn open(scenario: &'a Scenario) -> anyhow::Result<Self> {
        if !std::io::stderr().is_terminal() {
            return Err(failure("--watch draws on the terminal, and stderr is none", "leave --watch out"));
        }
        let quiet = Quiet::begin();
        execute!(std::io::stderr(), EnterAlternateScreen)?;
        let terminal = Terminal::new(CrosstermBackend::new(std::io::stderr()));
        let terminal = terminal.inspect_err(|_| leave())?;
        Ok(Self { terminal, _quiet: quiet, board: Board::new(scenario), drawn: None })
    }

    /// Takes what the console is told, and draws it.
    pub(super) fn tell(&mut self, line: &Line) {
        let now = Instant::now();
        let at_once = self.board.take(line);
        if at_once || self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= DRAW_EVERY) {
            self.drawn = Some(now);
            let board = &self.board;
            // A terminal that has gone is nobody's loss: the drill goes on.
            drop(self.terminal.draw(|frame| board.draw(frame)));
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    // There is nowhere left to say that the terminal has gone.
    drop(execute!(std::io::stderr(), LeaveAlternateScreen, Show));
}

/// What is typed is not shown, and does not reach the shell afterwards. Ctrl-C stays a signal.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
        tcsetattr(stdin(), OptionalActions::Now, &quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone needs neither.
        _ = tcflush(stdin(), QueueSelector::IFlush);
        _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}
