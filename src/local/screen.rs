//! What `sweep run` shows: a live table on a terminal, one line per event elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::core::{Assignments, Phase};

/// How often the live table is drawn.
const REDRAW: Duration = Duration::from_millis(150);

/// How many trials the live table shows.
pub const ROWS: usize = 12;

/// One trial of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it is being stopped.
    pub stopping: bool,
    /// The objective's value.
    pub value: Option<f64>,
    /// The step of the value.
    pub step: Option<u64>,
    /// How long it has run, or ran.
    pub time: Option<Duration>,
    /// What is tried.
    pub assignments: String,
}

/// What the live table shows.
#[derive(Clone, Debug)]
pub struct View {
    /// The study's name.
    pub study: String,
    /// The objective's metric.
    pub metric: String,
    /// Finished trials.
    pub finished: u32,
    /// All trials there will be at most.
    pub total: u32,
    /// Such as `3 running, 1 failed`.
    pub counts: String,
    /// Such as `best accuracy 0.97 of digits-0007`.
    pub best: Option<String>,
    /// Running trials and the last finished ones.
    pub rows: Vec<Row>,
}

/// Standard error, as a terminal or as lines.
pub struct Screen {
    live: Option<Live>,
}

struct Live {
    multi: MultiProgress,
    table: ProgressBar,
    bar: ProgressBar,
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
        let plain = !std::io::stderr().is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Screen { live: (!plain).then(Live::new) }
    }

    /// Whether there is a live table: then the usual events need no line.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match &self.live {
            Some(live) if live.multi.println(text).is_ok() => {}
            _ => eprintln!("{text}"),
        }
    }

    /// A line that stays, for an event that the live table shows anyway.
    pub fn event(&self, text: &str) {
        if !self.is_live() {
            self.line(text);
        }
    }

    /// Draws the live table, if it is time. `view` is only asked for then.
    pub fn draw(&mut self, view: impl FnOnce() -> View) {
        if let Some(live) = &mut self.live
            && live.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW)
        {
            live.draw(&view());
        }
    }

    /// Takes the live table away; what follows are lines.
    pub fn close(&mut self) {
        if let Some(live) = self.live.take() {
            live.table.finish_and_clear();
            live.bar.finish_and_clear();
        }
    }
}

impl Live {
    fn new() -> Live {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let style =
            |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let table = multi.add(ProgressBar::no_length().with_style(style("{msg}")));
        let bar = multi.add(ProgressBar::new(0).with_style(style("{bar:30} {pos}/{len}  {msg}").progress_chars("━╸─")));
        Live { multi, table, bar, drawn: None, began: Instant::now(), before: None }
    }

    fn draw(&mut self, view: &View) {
        let before = *self.before.get_or_insert(view.finished);
        let left = time_left(self.began.elapsed(), view.finished - before, view.total.saturating_sub(view.finished));
        let table = trials_table(&view.metric, &view.rows, true);
        let best = view.best.as_deref().map(|best| format!("  {best}")).unwrap_or_default();
        self.table.set_message(format!("{}: {}{best}\n{table}", view.study, view.counts));
        self.bar.set_length(u64::from(view.total));
        self.bar.set_position(u64::from(view.finished));
        self.bar.set_message(left.map(|left| format!("about {} left", duration(left))).unwrap_or_default());
        self.table.tick();
        self.drawn = Some(Instant::now());
    }
}

/// A guess from the pace so far; none before two trials have finished.
fn time_left(elapsed: Duration, finished: u32, left: u32) -> Option<Duration> {
    (finished >= 2).then(|| elapsed.mul_f64(f64::from(left) / f64::from(finished)))
}

/// A table of trials.
pub fn trials_table(metric: &str, rows: &[Row], on_stderr: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if on_stderr {
        table.use_stderr();
    }
    // A terminal that does not tell its width says 0.
    if table.width().is_some_and(|width| width < 40) {
        table.set_width(80);
    }
    let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let header = ["TRIAL", "PHASE", metric, "STEP", "TIME", "ASSIGNMENTS"];
    table.set_header(header.map(|text| match coloured {
        true => Cell::new(text).add_attribute(Attribute::Bold),
        false => Cell::new(text),
    }));
    for row in rows {
        let text = if row.stopping { "Stopping".to_owned() } else { format!("{:?}", row.phase) };
        let colour = match row.phase {
            Phase::Succeeded => Some(Color::Green),
            Phase::Failed => Some(Color::Red),
            Phase::Pruned | Phase::Stopped => Some(Color::Yellow),
            Phase::Running => Some(Color::Cyan),
            Phase::Pending => None,
        };
        let phase = match colour.filter(|_| coloured) {
            Some(colour) => Cell::new(text).fg(colour),
            None => Cell::new(text),
        };
        let right = |text: Option<String>| Cell::new(text.unwrap_or_default()).set_alignment(CellAlignment::Right);
        let mut cells = comfy_table::Row::from([
            Cell::new(&row.name),
            phase,
            right(row.value.map(number)),
            right(row.step.map(|step| step.to_string())),
            right(row.time.map(duration)),
            Cell::new(&row.assignments),
        ]);
        cells.max_height(1);
        table.add_row(cells);
    }
    table
}

/// Such as `batch=32 learning_rate=0.0012345`, long numbers shortened.
pub fn assignments(assignments: &Assignments) -> String {
    let short = |text: &str| match text.parse::<f64>() {
        Ok(value) if text.len() > 9 => number(value),
        _ => text.to_owned(),
    };
    assignments.iter().map(|(name, value)| format!("{name}={}", short(value))).collect::<Vec<_>>().join(" ")
}

/// A number for a person: as it is where it is short, else five digits that count.
pub fn number(value: f64) -> String {
    let text = value.to_string();
    if text.len() <= 9 {
        return text;
    }
    if (1e-4..1e7).contains(&value.abs()) {
        let before = value.abs().log10().floor() as i32;
        let decimals = (4 - before).max(0) as usize;
        return format!("{value:.decimals$}");
    }
    format!("{value:.4e}")
}

/// Such as `1.4s`, `2m05s`, `3h07m`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", time.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
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
    fn numbers_and_times_are_short() {
        let numbers = [
            (0.9731, "0.9731"),
            (1.0, "1"),
            (0.123_456_789_01, "0.12346"),
            (12345.678901, "12346"),
            (1.234_567_890_12e-7, "1.2346e-7"),
            (-1234.5678912, "-1234.6"),
        ];
        for (value, text) in numbers {
            assert_eq!(number(value), text);
        }
        for (seconds, text) in [(0.04, "0.0s"), (1.44, "1.4s"), (125.0, "2m05s"), (11_230.0, "3h07m")] {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
        }
    }

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
