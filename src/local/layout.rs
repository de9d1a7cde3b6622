//! Where everything stands in what `sweep run` shows, as pure functions of what there is and of the terminal's size.

use std::collections::BTreeSet;
use std::time::Duration;

use console::{measure_text_width, truncate_str};

use crate::core::{Phase, number};

/// How many trials the live table shows, where not more are running.
const ROWS: usize = 12;

/// How wide the bar is at most.
const BAR: usize = 30;

/// How much room the assignments get before columns are left out for them.
const ASSIGNMENTS: usize = 16;

/// How long the name of a metric may be above its column where room is short.
const METRIC: usize = 10;

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Its columns.
    pub width: usize,
    /// Its lines.
    pub height: usize,
}

/// One trial of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
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
    /// What is tried: names and values as they are shown, in the study's order.
    pub assignments: Vec<(String, String)>,
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
    /// How long the rest will take, about.
    pub left: Option<Duration>,
    /// Such as `3 running, 1 failed`.
    pub counts: String,
    /// Such as `best accuracy 0.97 of digits-0007`.
    pub best: Option<String>,
    /// How many trials have a process.
    pub running: usize,
    /// Trials, the most important first: those with a process, those that wait, then those that finished last.
    pub rows: Vec<Row>,
}

/// The live table: a heading, the trials, and the bar, in no more lines than there are and none of them wider than there
/// is room. The bar and the running trials come first; how many of them have no room is said.
pub fn live(view: &View, size: Size, coloured: bool) -> Vec<String> {
    let (heading, header) = (size.height >= 4, size.height >= 6);
    let room = size.height.saturating_sub(1 + usize::from(heading) + usize::from(header));
    let limit = room.min(ROWS.max(view.running));
    let all_run = view.running <= limit;
    let count = if all_run { limit } else { limit.saturating_sub(1).max(limit.min(1)) };
    let mut rows: Vec<&Row> = view.rows.iter().take(count).collect();
    rows.sort_by_key(|row| row.index);

    let mut lines = Vec::new();
    if heading {
        let best = view.best.as_deref().map(|best| format!("  {best}")).unwrap_or_default();
        lines.push(cut(&format!("{}: {}{best}", view.study, view.counts), size.width));
    }
    let table = table(&view.metric, &rows, Some(size.width), coloured);
    lines.extend(table.into_iter().skip(usize::from(!header)));
    if !all_run && limit > 1 {
        lines.push(cut(&format!("… and {} more running", view.running - rows.len()), size.width));
    }
    lines.push(bar(view, size.width));
    lines
}

/// Such as `━━━━━╸─────── 5/12  about 2m05s left`.
fn bar(view: &View, width: usize) -> String {
    let total = view.total.max(view.finished).max(1);
    let mut text = format!("{}/{total}", view.finished);
    if let Some(left) = view.left {
        let left = format!("{text}  about {} left", duration(left));
        if left.len() <= width {
            text = left;
        }
    }
    let room = width.saturating_sub(measure_text_width(&text) + 1).min(BAR);
    if room < 3 {
        return cut(&text, width);
    }
    let done = (room as f64 * f64::from(view.finished) / f64::from(total)) as usize;
    let head = if done < room && done > 0 { "╸" } else { "" };
    let rest = room - done - usize::from(!head.is_empty());
    format!("{}{head}{} {text}", "━".repeat(done), "─".repeat(rest))
}

/// What a column of a table shows of a trial; the assignments stand behind the last one.
#[derive(Clone, Copy, PartialEq)]
enum Column {
    Trial,
    Phase,
    Value,
    Step,
    Time,
}

/// A table of trials, a header and a line for each, none wider than `width`. Where room is short, trials are called by their
/// index alone, then columns are left out, and the parameters in which these trials differ come first; what has
/// no room is cut.
pub fn table(metric: &str, rows: &[&Row], width: Option<usize>, coloured: bool) -> Vec<String> {
    use Column::{Phase, Step, Time, Trial, Value};
    let mut columns = vec![Trial, Phase, Value, Step, Time];
    let fixed = |columns: &[Column], short| -> usize {
        columns.iter().map(|column| column_width(*column, metric, rows, short) + GAP.len()).sum()
    };
    let texts: Vec<String> = rows.iter().map(|row| joined(row, |_| true)).collect();
    let longest = texts.iter().map(|text| measure_text_width(text)).max().unwrap_or(0);
    let short = width.is_some_and(|width| fixed(&columns, false) + longest > width);
    let texts = if short { by_difference(rows) } else { texts };
    for expendable in [Time, Step, Phase] {
        if width.is_some_and(|width| fixed(&columns, short) + longest.min(ASSIGNMENTS) > width) {
            columns.retain(|column| *column != expendable);
        }
    }
    let line = |cell: &dyn Fn(Column) -> String, colour: &dyn Fn(Column) -> &'static str, last: &str| {
        let (mut line, mut left) = (String::new(), width.unwrap_or(usize::MAX));
        for column in &columns {
            let text = padded(&cell(*column), column_width(*column, metric, rows, short), *column);
            let text = cut(&text, left);
            left = left.saturating_sub(measure_text_width(&text) + GAP.len());
            line += &painted(&text, colour(*column), coloured);
            line += &GAP[..GAP.len().min(left)];
        }
        line += &painted(&cut(last, left), colour(Trial), coloured);
        line.truncate(line.trim_end().len());
        line
    };
    let header = line(&|column| head(column, metric, short), &|_| BOLD, "ASSIGNMENTS");
    let of_row = |(row, text): (&&Row, &String)| {
        let colour = |column| if column == Phase { phase_colour(row.phase) } else { "" };
        line(&|column| cell(column, row, short), &colour, text)
    };
    std::iter::once(header).chain(rows.iter().zip(&texts).map(of_row)).collect()
}

const GAP: &str = "  ";
const BOLD: &str = "1";

fn head(column: Column, metric: &str, short: bool) -> String {
    match column {
        Column::Trial => "TRIAL".to_owned(),
        Column::Phase => "PHASE".to_owned(),
        Column::Value if short => cut(metric, METRIC),
        Column::Value => metric.to_owned(),
        Column::Step => "STEP".to_owned(),
        Column::Time => "TIME".to_owned(),
    }
}

fn cell(column: Column, row: &Row, short: bool) -> String {
    match column {
        // The heading names the study.
        Column::Trial if short => row.name.rsplit('-').next().unwrap_or(&row.name).to_owned(),
        Column::Trial => row.name.clone(),
        Column::Phase if row.stopping => "Stopping".to_owned(),
        Column::Phase => format!("{:?}", row.phase),
        Column::Value => row.value.map(number).unwrap_or_default(),
        Column::Step => row.step.map(|step| step.to_string()).unwrap_or_default(),
        Column::Time => row.time.map(duration).unwrap_or_default(),
    }
}

fn column_width(column: Column, metric: &str, rows: &[&Row], short: bool) -> usize {
    let cells = rows.iter().map(|row| measure_text_width(&cell(column, row, short)));
    cells.max().unwrap_or(0).max(measure_text_width(&head(column, metric, short)))
}

fn padded(text: &str, width: usize, column: Column) -> String {
    let space = " ".repeat(width.saturating_sub(measure_text_width(text)));
    match column {
        Column::Trial | Column::Phase => format!("{text}{space}"),
        Column::Value | Column::Step | Column::Time => format!("{space}{text}"),
    }
}

fn phase_colour(phase: Phase) -> &'static str {
    match phase {
        Phase::Succeeded => "32",
        Phase::Failed => "31",
        Phase::Pruned | Phase::Stopped => "33",
        Phase::Running => "36",
        Phase::Pending => "",
    }
}

/// The text in a colour (SGR).
fn painted(text: &str, colour: &str, coloured: bool) -> String {
    match coloured && !colour.is_empty() {
        true => format!("\x1b[{colour}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// The assignments of each trial, the parameters in which the trials differ first.
fn by_difference(rows: &[&Row]) -> Vec<String> {
    let of = |row: &Row, name: &str| row.assignments.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.assignments.iter().map(|(name, _)| name)).collect();
    let differs = |name: &str| rows.windows(2).any(|pair| of(pair[0], name) != of(pair[1], name));
    let differing: BTreeSet<&String> = names.into_iter().filter(|name| differs(name)).collect();
    let parts = |row: &Row| {
        let (first, then) =
            (joined(row, |name| differing.contains(name)), joined(row, |name| !differing.contains(name)));
        let space = if first.is_empty() || then.is_empty() { "" } else { " " };
        format!("{first}{space}{then}")
    };
    rows.iter().map(|row| parts(row)).collect()
}

fn joined(row: &Row, which: impl Fn(&String) -> bool) -> String {
    assignments(row.assignments.iter().filter(|(name, _)| which(name)))
}

/// Such as `batch=32 learning_rate=0.0012346`.
pub fn assignments<'a>(pairs: impl IntoIterator<Item = &'a (String, String)>) -> String {
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// At most so many columns, with `…` for what is cut off.
fn cut(text: &str, width: usize) -> String {
    truncate_str(text, width, if width == 0 { "" } else { "…" }).into_owned()
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

/// How many lines of a terminal this text takes, once it is as wide as that.
pub fn lines_taken(text: &str, width: usize) -> usize {
    measure_text_width(text).div_ceil(width.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: u32, phase: Phase, assignments: &[(&str, &str)]) -> Row {
        Row {
            name: format!("narrow-{index:04}"),
            index,
            phase,
            stopping: false,
            value: Some(0.1 * f64::from(index + 1)),
            step: Some(4),
            time: Some(Duration::from_millis(1300)),
            assignments: assignments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    /// Four trials that run, and eight that have finished.
    fn view(running: u32) -> View {
        let rows = (0..running + 8).map(|i| {
            let (phase, index) = if i < running { (Phase::Running, 8 + i) } else { (Phase::Succeeded, i - running) };
            let (lr, width) = (format!("0.00{}2345", 1 + i % 9), format!("{}", 100 + i));
            row(index, phase, &[("learning_rate", &lr), ("batch_size", "32"), ("hidden_layer_width", &width)])
        });
        View {
            study: "narrow".to_owned(),
            metric: "acc".to_owned(),
            finished: 8,
            total: 64,
            left: Some(Duration::from_secs(125)),
            counts: format!("{running} running, 8 succeeded"),
            best: Some("best acc 0.8 of narrow-0007".to_owned()),
            running: running as usize,
            rows: rows.collect(),
        }
    }

    fn drawn(running: u32, width: usize, height: usize) -> String {
        live(&view(running), Size { width, height }, false).join("\n")
    }

    #[test]
    fn at_80_by_24_there_is_room_for_the_running_trials_and_those_that_finished_last() {
        insta::assert_snapshot!(drawn(4, 80, 24));
    }

    #[test]
    fn at_80_by_8_the_running_trials_and_the_bar_are_visible() {
        insta::assert_snapshot!(drawn(4, 80, 8));
    }

    #[test]
    fn at_40_by_5_as_many_running_trials_as_fit_and_how_many_more_there_are() {
        insta::assert_snapshot!(drawn(4, 40, 5));
    }

    #[test]
    fn at_200_by_50_every_assignment_is_whole_and_all_of_many_running_trials_are_shown() {
        insta::assert_snapshot!(drawn(16, 200, 50));
    }

    #[test]
    fn nothing_is_wider_or_higher_than_the_terminal() {
        for running in [0, 1, 4, 40] {
            for (width, height) in [(0, 0), (1, 1), (3, 2), (10, 3), (20, 4), (33, 5), (40, 6), (80, 8), (120, 30)] {
                for coloured in [false, true] {
                    let lines = live(&view(running), Size { width, height }, coloured);
                    assert!(lines.len() <= height.max(1), "{width}x{height}: {lines:?}");
                    let widest = lines.iter().map(|line| measure_text_width(&plain(line))).max().unwrap_or(0);
                    assert!(widest <= width, "{width}x{height}: {lines:?}");
                    let shown = lines.iter().filter(|line| line.contains("Running")).count();
                    if width >= 40 && height >= running as usize + 3 {
                        assert_eq!(shown, running as usize, "{width}x{height}: {lines:?}");
                    }
                }
            }
        }
    }

    fn plain(line: &str) -> String {
        crate::shown::shown(line).into_owned()
    }

    #[test]
    fn a_row_is_filled_to_the_width() {
        for width in 50..100 {
            let lines = live(&view(4), Size { width, height: 8 }, false);
            for line in &lines[2..lines.len() - 1] {
                let is_whole =
                    line.contains("batch_size=32") && line.contains("hidden_layer_width=1") && !line.ends_with('…');
                assert!(is_whole || (measure_text_width(line) == width && line.ends_with('…')), "{width}: {line}");
            }
        }
    }

    #[test]
    fn where_room_is_short_the_parameters_that_differ_come_first() {
        let pairs = |lr, batch| [("lr", lr), ("optimizer_of_the_network", "adam"), ("batch", batch)];
        let rows = [row(0, Phase::Running, &pairs("0.1", "16")), row(1, Phase::Running, &pairs("0.2", "32"))];
        let rows: Vec<&Row> = rows.iter().collect();
        let wide = table("acc", &rows, Some(100), false);
        assert!(wide[1].ends_with("lr=0.1 optimizer_of_the_network=adam batch=16"), "{}", wide[1]);
        let narrow = table("acc", &rows, Some(70), false);
        assert!(narrow[1].ends_with("lr=0.1 batch=16 optimizer_of_the_net…"), "{}", narrow[1]);
        assert!(narrow[2].contains("lr=0.2 batch=32 "), "{}", narrow[2]);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let rows = [row(0, Phase::Running, &[("言語モデルの大きさ", "大"), ("lr", "0.1")])];
        let lines = table("精度", &rows.iter().collect::<Vec<_>>(), Some(44), false);
        assert!(lines.iter().all(|line| measure_text_width(line) <= 44), "{lines:?}");
    }

    #[test]
    fn the_bar_grows_with_what_is_finished() {
        let at = |finished, total, width| bar(&View { finished, total, left: None, ..view(0) }, width);
        assert_eq!(at(0, 4, 20), "──────────────── 0/4");
        assert_eq!(at(1, 4, 20), "━━━━╸─────────── 1/4");
        assert_eq!(at(4, 4, 20), "━━━━━━━━━━━━━━━━ 4/4");
        assert_eq!(at(0, 0, 20), "──────────────── 0/1");
        assert_eq!(at(5, 4, 6), "5/5");
        let left = bar(&view(4), 80);
        assert!(left.ends_with(" 8/64  about 2m05s left"), "{left}");
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(0.04, "0.0s"), (1.44, "1.4s"), (125.0, "2m05s"), (11_230.0, "3h07m")] {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn what_was_drawn_takes_more_lines_on_a_terminal_that_has_become_narrower() {
        for (text, width, lines) in [("", 80, 1), ("12345678", 8, 1), ("123456789", 8, 2), ("12345", 0, 5)] {
            assert_eq!(lines_taken(text, width), lines, "{text:?} at {width}");
        }
    }
}
