//! What `sweep run` shows: a live table on a terminal, one line per event elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use console::Term;

use super::layout::{self, Size, lines_taken};
pub use super::layout::{Row, View, duration};
use crate::core::{Assignments, Space, number};
use crate::shown::shown;

/// How often the live table is drawn.
const REDRAW: Duration = Duration::from_millis(150);

/// Standard error, as a terminal or as lines.
pub struct Screen {
    live: Option<Live>,
}

struct Live {
    terminal: Term,
    /// The lines that stand below everything else, the cursor behind the last one.
    lines: Vec<String>,
    drawn: Option<Instant>,
    began: Instant,
    /// What was finished when this began.
    before: Option<u32>,
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

impl Screen {
    /// A live table where standard error is a terminal.
    pub fn new() -> Screen {
        let plain = !io::stderr().is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Screen { live: (!plain).then(Live::new) }
    }

    /// Whether there is a live table: then the usual events need no line.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// A line that stays. What it quotes of a trainer is cleaned.
    pub fn line(&mut self, text: &str) {
        let text = shown(text);
        match &mut self.live {
            Some(live) => live.print(&text),
            None => eprintln!("{text}"),
        }
    }

    /// A line that stays, for an event that the live table shows anyway.
    pub fn event(&mut self, text: &str) {
        if !self.is_live() {
            self.line(text);
        }
    }

    /// Draws the live table, if it is time. `view` is only asked for then; how long the rest takes is known here.
    pub fn draw(&mut self, view: impl FnOnce() -> View) {
        if let Some(live) = &mut self.live
            && live.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW)
        {
            live.draw(view());
        }
    }

    /// Takes the live table away; what follows are lines.
    pub fn close(&mut self) {
        if let Some(mut live) = self.live.take() {
            live.replace("", Vec::new());
        }
    }
}

impl Live {
    fn new() -> Live {
        Live { terminal: Term::stderr(), lines: Vec::new(), drawn: None, began: Instant::now(), before: None }
    }

    fn draw(&mut self, mut view: View) {
        let before = *self.before.get_or_insert(view.finished);
        view.left = time_left(self.began.elapsed(), view.finished - before, view.total.saturating_sub(view.finished));
        let lines = layout::live(&view, size(&self.terminal).unwrap_or(USUAL), has_colours(true));
        self.replace("", lines);
        self.drawn = Some(Instant::now());
    }

    fn print(&mut self, text: &str) {
        let lines = std::mem::take(&mut self.lines);
        let above = format!("{text}\n");
        self.replace_drawn(&lines, &above, lines.clone());
    }

    /// Writes `above`, which stays, and `lines` below it, in the place of the lines so far.
    fn replace(&mut self, above: &str, lines: Vec<String>) {
        let drawn = std::mem::take(&mut self.lines);
        self.replace_drawn(&drawn, above, lines);
    }

    fn replace_drawn(&mut self, drawn: &[String], above: &str, lines: Vec<String>) {
        // A terminal that has become narrower has wrapped what was drawn.
        let width = size(&self.terminal).unwrap_or(USUAL).width;
        let taken: usize = drawn.iter().map(|line| lines_taken(&shown(line), width)).sum();
        let mut text = String::from("\r");
        if taken > 1 {
            let _ = write!(text, "\x1b[{}A", taken - 1);
        }
        // At once, so that nothing flickers.
        text += "\x1b[J";
        text += above;
        text += &lines.join("\n");
        let mut stderr = io::stderr().lock();
        // Who closed standard error does not look.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        self.lines = lines;
    }
}

/// The size of a terminal that does not tell it.
const USUAL: Size = Size { width: 80, height: 24 };

fn size(terminal: &Term) -> Option<Size> {
    let (height, width) = terminal.size_checked()?;
    // Some say 0.
    (height > 0 && width > 0).then_some(Size { width: width.into(), height: height.into() })
}

/// Whether the user wants colours, and standard error (or standard output) is a terminal.
fn has_colours(on_stderr: bool) -> bool {
    let is_terminal = if on_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A guess from the pace so far; none before two trials have finished.
fn time_left(elapsed: Duration, finished: u32, left: u32) -> Option<Duration> {
    (finished >= 2).then(|| elapsed.mul_f64(f64::from(left) / f64::from(finished)))
}

/// A table of trials that stays, as wide as the terminal, if it is one.
pub fn trials_table(metric: &str, rows: &[Row], on_stderr: bool) -> String {
    let terminal = if on_stderr { Term::stderr() } else { Term::stdout() };
    let width = terminal.is_term().then(|| size(&terminal).unwrap_or(USUAL).width);
    layout::table(metric, &rows.iter().collect::<Vec<_>>(), width, has_colours(on_stderr)).join("\n")
}

/// Names and values as a person sees them, in the study's order; long numbers are shortened.
pub fn assignments(space: &Space, assignments: &Assignments) -> Vec<(String, String)> {
    let short = |text: &str| match text.parse::<f64>() {
        Ok(value) if text.len() > 9 => number(value),
        _ => shown(text).into_owned(),
    };
    in_order(space, assignments).map(|(name, value)| (name.to_owned(), short(value))).collect()
}

/// The assignments in the study's order.
pub fn in_order<'a>(space: &'a Space, assignments: &'a Assignments) -> impl Iterator<Item = (&'a str, &'a str)> {
    space
        .parameters()
        .iter()
        .filter_map(|parameter| assignments.get(&parameter.name).map(|value| (parameter.name.as_str(), value.as_str())))
}

/// Such as `learning_rate=0.0012346 batch=32`.
pub fn one_line(space: &Space, assigned: &Assignments) -> String {
    layout::assignments(&assignments(space, assigned))
}

/// A command line as one could type it.
pub fn quoted(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@%+".contains(c);
    let quote = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_command_line_is_read_by_a_shell_as_the_same_words() {
        let words = ["sh", "-c", "echo \"it's\" $x", "", "--a=b"].map(str::to_owned);
        assert_eq!(quoted(&words), r#"sh -c 'echo "it'\''s" $x' '' --a=b"#);
    }

    #[test]
    fn the_time_left_is_the_pace_so_far() {
        assert_eq!(time_left(Duration::from_secs(10), 1, 5), None);
        assert_eq!(time_left(Duration::from_secs(10), 5, 10), Some(Duration::from_secs(20)));
    }
}
