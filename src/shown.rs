//! A line that a trainer wrote, as a person may see it: what a terminal would show of it in the end.
//!
//! What trainers write is hostile input, and ends in tables, statuses, Events and logs. There it can neither clear a
//! screen nor reorder the text around it, and a progress bar is what was drawn last. Like a terminal, but for two
//! points, in which this does what viewers of logs do:
//!
//! - Text behind a carriage return replaces the line, also where it is shorter: what would be left of a progress bar behind
//!   an error message is no part of the message.
//! - A line is all there is: clearing the screen does nothing (`CSI J` erases to the line's end), and moving the
//!   cursor up or down neither. A jump to a place of the screen (`CSI H`) begins the line anew, as a carriage return.
//!
//! | in the line | what becomes of it |
//! |---|---|
//! | `\r` | what follows replaces the line; nothing follows: nothing changes |
//! | `\b`; `CSI C`, `D`, `G`; `CSI K` | the cursor moves; erases in the line |
//! | other control sequences, titles and links (`OSC`), device strings, lone escapes | dropped |
//! | a tab, `\v`, `\f`, `\n`, U+0085, U+2028, U+2029 | a space |
//! | other control characters; what is invisible or sets the direction of writing, but for joiners | dropped |
//! | spaces at the end | dropped |

use std::borrow::Cow;

/// How far behind the end of the text the cursor can be sent. Every sequence costs at most as much.
const COLUMNS: usize = 256;

/// The line as a terminal would show it in the end, in linear time and never longer than the line and 256 characters.
/// Nothing in it is a control character, sets the direction of writing, or is invisible but for joiners (U+200C, U+200D:
/// writing systems and emoji need them).
pub fn shown(line: &str) -> Cow<'_, str> {
    drawn(line, ' ')
}

/// As [`shown`], but a tab stays one: it means something to who reads metrics.
pub fn shown_with_tabs(line: &str) -> Cow<'_, str> {
    drawn(line, '\t')
}

fn drawn(line: &str, tab: char) -> Cow<'_, str> {
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
    // Most lines are plain, and then only looked at.
    if line.bytes().all(is_printable) || line.chars().all(|c| glyph(c, tab) == Some(c)) {
        return Cow::Borrowed(line.trim_end());
    }
    let mut drawing = Drawing::default();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\r' => drawing.start_anew(),
            '\x08' => drawing.at = drawing.at.saturating_sub(1),
            '\x1b' => rest = drawing.escape(rest),
            '\u{9b}' => rest = drawing.control(rest),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => rest = behind_string(rest),
            _ => glyph(c, tab).into_iter().for_each(|c| drawing.put(c)),
        }
    }
    let mut text: String = drawing.cells.into_iter().collect();
    text.truncate(text.trim_end().len());
    Cow::Owned(text)
}

/// What a character draws. None where it draws nothing.
fn glyph(c: char, tab: char) -> Option<char> {
    match c {
        '\t' => Some(tab),
        // They would end the line.
        '\n' | '\x0b' | '\x0c' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        _ if c.is_control() || is_invisible(c) => None,
        _ => Some(c),
    }
}

/// Format characters (Cf) that draw nothing: marks of direction, joiners of words, annotations, tags.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// A line of a terminal; every character takes one column.
#[derive(Default)]
struct Drawing {
    cells: Vec<char>,
    /// The cursor.
    at: usize,
    /// Whether the next character replaces the line.
    anew: bool,
}

impl Drawing {
    fn start_anew(&mut self) {
        self.at = 0;
        self.anew = true;
    }

    fn put(&mut self, c: char) {
        if self.anew {
            self.cells.clear();
            self.anew = false;
        }
        // Behind the text only as far as is bounded.
        self.at = self.at.min(self.cells.len().max(COLUMNS));
        while self.cells.len() < self.at {
            self.cells.push(' ');
        }
        match self.cells.get_mut(self.at) {
            Some(cell) => *cell = c,
            None => self.cells.push(c),
        }
        self.at += 1;
    }

    /// Does what stands behind an ESC, and returns what follows (ECMA-35, 13; ECMA-48, 5.3).
    fn escape<'a>(&mut self, rest: &'a str) -> &'a str {
        let Some(first) = rest.chars().next() else { return rest };
        match first {
            '[' => self.control(&rest[1..]),
            // `k` is a title, to screen and tmux.
            ']' | 'P' | 'X' | '^' | '_' | 'k' => behind_string(&rest[1..]),
            ' '..='~' => {
                let rest = rest.trim_start_matches(|c| matches!(c, ' '..='/'));
                rest.strip_prefix(|c| matches!(c, '0'..='~')).unwrap_or(rest)
            }
            _ => rest,
        }
    }

    /// Does what stands behind a CSI, and returns what follows: parameters, intermediates, one final character.
    fn control<'a>(&mut self, rest: &'a str) -> &'a str {
        let behind = rest.trim_start_matches(|c| matches!(c, '0'..='?'));
        let parameters = &rest[..rest.len() - behind.len()];
        let last = behind.trim_start_matches(|c| matches!(c, ' '..='/'));
        let Some(command) = last.chars().next().filter(|c| matches!(c, '@'..='~')) else { return last };
        // With an intermediate, or a private parameter, it is another command.
        if last.len() == behind.len() && parameters.chars().all(|c| c.is_ascii_digit() || c == ';') {
            self.command(command, parameters.split(';').next().unwrap_or_default());
        }
        &last[1..]
    }

    fn command(&mut self, command: char, parameter: &str) {
        // A number that is too long is one that is too high.
        let number = if parameter.is_empty() { None } else { Some(parameter.parse().unwrap_or(usize::MAX)) };
        let count = number.unwrap_or(1).max(1);
        let furthest = self.cells.len().max(COLUMNS);
        match (command, number.unwrap_or(0)) {
            ('C' | 'a', _) => self.go(self.at.saturating_add(count).min(furthest)),
            ('D', _) => self.go(self.at.saturating_sub(count)),
            ('G' | '`', _) => self.go((count - 1).min(furthest)),
            ('H' | 'f' | 'E' | 'F', _) => self.start_anew(),
            ('K' | 'J', 0) => self.cells.truncate(self.at),
            ('K', 1) if self.at < COLUMNS => {
                let erased = self.cells.len().min(self.at + 1);
                self.cells[..erased].fill(' ');
            }
            ('K', 2) => self.cells.clear(),
            _ => {}
        }
    }

    fn go(&mut self, at: usize) {
        // Behind a carriage return the first column draws over the line as any other: it was asked for.
        (self.at, self.anew) = (at, self.anew && at == 0);
    }
}

/// What follows a string such as a title, at whose beginning `rest` is. One that nothing ends is text: it may hold what
/// went wrong.
fn behind_string(rest: &str) -> &str {
    let Some(end) = rest.find(['\x07', '\u{9c}', '\x18', '\x1a', '\x1b']) else { return rest };
    let end = &rest[end..];
    // Another escape sequence ends it, too.
    end.strip_prefix("\x1b\\").or_else(|| end.strip_prefix(|c| c != '\x1b')).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expect(cases: &[(&str, &str)]) {
        for (line, text) in cases {
            assert_eq!(shown(line), *text, "{line:?}");
        }
    }

    #[test]
    fn a_plain_line_is_not_copied() {
        for line in ["", "epoch 3: loss=0.5 – ✓ 学習率 👩‍💻", "  indented"] {
            assert!(matches!(shown(line), Cow::Borrowed(text) if text == line), "{line:?}");
        }
        assert!(matches!(shown_with_tabs("[0]\ttrain-rmse:0.5  "), Cow::Borrowed("[0]\ttrain-rmse:0.5")));
        assert!(matches!(shown("[0]\ttrain-rmse:0.5"), Cow::Owned(text) if text == "[0] train-rmse:0.5"));
    }

    #[test]
    fn a_progress_bar_is_what_was_drawn_last() {
        expect(&[
            (
                " 0%|###| 0/100 [00:01<00:03, loss=0.0]\r 30%|###| 1/100 [00:01<00:03, loss=0.1]\r\x1b[31mout of memory\x1b[0m\x1b[2J\x1b]0;owned\x07",
                "out of memory",
            ),
            ("\r  0%|          | 0/3\r 33%|###3      | 1/3\r100%|##########| 3/3", "100%|##########| 3/3"),
            // What ends with a carriage return stands.
            (" 10%\r 50%\r100%\r", "100%"),
            ("100%\r\r", "100%"),
            // A bar that is taken away: tqdm's leave=False, and those that erase.
            ("50%|#####     |\r               \r", ""),
            ("Downloading 50%\r\x1b[K", ""),
            ("Downloading 50%\r\x1b[2Kdone", "done"),
            ("Downloading 50%\x1b[2K\x1b[Gdone", "done"),
            ("Downloading 50%\x1b[1G\x1b[0Jdone", "done"),
            // Keras.
            ("1/9 [>....]\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\r2/9 [=>...]", "2/9 [=>...]"),
            ("1/9 [>....]\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x082/9 [=>...]", "2/9 [=>...]"),
            ("\x1b[1m 1/9\x1b[0m \x1b[37m━━━\x1b[0m\r\x1b[1m 9/9\x1b[0m \x1b[32m━━━\x1b[0m", " 9/9 ━━━"),
            // Two bars of tqdm, the upper one drawn last.
            ("lower 10%\x1b[A\rupper 20%", "upper 20%"),
            ("\x1b[2;1Hlower\x1b[1;1Hupper", "upper"),
        ]);
    }

    #[test]
    fn the_cursor_moves_and_erases_as_on_a_terminal() {
        expect(&[
            ("abc\x08\x08X", "aXc"),
            ("\x08\x08abc", "abc"),
            ("abc\x1b[1GX", "Xbc"),
            ("abc\r\x1b[2CX", "abX"),
            ("abc\x1b[3D\x1b[KX", "X"),
            ("ab\x1b[6Gok", "ab   ok"),
            ("abc\x1b[2D\x1b[1Kd", " dc"),
            ("abc\x1b[2J", "abc"),
            ("abc\x1b[?2K", "abc"),
            ("abc\x1b[2 K", "abc"),
        ]);
    }

    #[test]
    fn sequences_draw_nothing() {
        expect(&[
            ("\x1b[1;32maccuracy\x1b[0m=0.9", "accuracy=0.9"),
            ("\x1b[38:2::255:0:0mred\x1b[m", "red"),
            ("\u{9b}31mred\u{9b}0m", "red"),
            ("\x1b[?25lhidden\x1b[?25h", "hidden"),
            ("\x1b[", ""),
            ("a\x1b[31", "a"),
            ("a\x1b", "a"),
            ("\x1b[\x1b[0mb", "b"),
            ("\x1b[31é", "é"),
            ("\x1bcreset \x1b(Bcharset \x1b#8all E", "reset charset all E"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\u{9d}0;title\u{9c}text", "text"),
            ("\x1bPdevice\x1b\\\x1b_program\x1b\\\x1b^private\x1b\\\x1bXstring\x1b\\text", "text"),
            ("\x1bkowned\x1b\\text", "text"),
            ("\x1b]52;c;ZXZpbA==\x07text", "text"),
            ("\x1b]0;cut\x1b[31mtext", "text"),
            // Nothing ends it.
            ("\x1b]0;out of memory", "0;out of memory"),
        ]);
    }

    #[test]
    fn what_is_invisible_or_reorders_is_dropped_and_what_writing_needs_stays() {
        expect(&[
            ("lr\u{202e}1.0\u{202c}", "lr1.0"),
            ("\u{2066}a\u{2069}\u{200e}b\u{200f}c\u{61c}", "abc"),
            ("\u{feff}ze\u{200b}ro\u{ad}\u{2060}", "zero"),
            ("a\u{e0041}\u{fff9}", "a"),
            ("a\0b\x07c\x7fd\u{80}", "abcd"),
            ("a\tb\x0bc\x0cd\ne\u{85}f\u{2028}g", "a b c d e f g"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("👩\u{200d}💻", "👩\u{200d}💻"),
            ("text  \x1b[0m  ", "text"),
        ]);
    }

    #[test]
    fn a_hostile_line_costs_no_more_than_its_length() {
        let text = "x".repeat(30_000);
        for piece in
            ["\x1b[999999999G\x1b[1Kx", "\x1b[2Kx", "\x1b[99999999999999999999Cx\x1b[K", "\x1b]", "\x1b[1K", "\r"]
        {
            let line = text.clone() + &piece.repeat(200_000);
            assert!(shown(&line).chars().count() <= line.len() + COLUMNS);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_shown_controls_a_terminal(
            line in "([\\x00-\\x20\\x1b\\[\\]0-9;A-Kmx\\x7f-\\u{9f}\\u{200b}-\\u{202e}\\u{2060}-\\u{206f}]|\\x1b\\[|\\PC){0,60}"
        ) {
            let text = shown(&line);
            let hidden = |c: char| c.is_control() || is_invisible(c) || matches!(c, '\u{2028}' | '\u{2029}');
            prop_assert!(!text.contains(hidden), "{text:?}");
            prop_assert_eq!(shown(&text), text.as_ref());
            prop_assert!(text.chars().count() <= line.chars().count() + COLUMNS);
        }
    }
}
