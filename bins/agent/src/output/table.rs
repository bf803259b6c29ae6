//! Tables that fit the terminal: in columns where these have room for their longest words, otherwise one record below the
//! other. Text is broken between words.

use std::fmt;

use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Width, presets};
use console::{colors_enabled, measure_text_width};
use punctual_domain::visible;

use super::{Tone, width};

/// Spaces between columns.
const GAP: usize = 2;
/// A longer word may be broken; the longest of our own are the ids of batches.
const LONGEST_WORD: usize = 36;
/// The narrowest column in which several words are read with ease.
const NARROW: usize = 12;
/// The narrowest column of values below each other.
const NARROWEST: usize = 8;

/// A table with a heading for each column.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One or more lines, in a tone.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    lines: Vec<String>,
    tone: Tone,
}

/// A cell with text that may come from elsewhere.
pub(crate) fn cell(text: impl fmt::Display) -> Cell {
    Cell {
        lines: vec![visible(&text.to_string()).into_owned()],
        tone: Tone::Plain,
    }
}

impl Cell {
    /// The same, with a further line.
    pub(crate) fn below(mut self, text: impl fmt::Display) -> Self {
        self.lines.push(visible(&text.to_string()).into_owned());
        self
    }

    /// The same, in a tone.
    pub(crate) fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    /// Width of its longest line.
    fn most(&self) -> usize {
        self.lines
            .iter()
            .map(|line| measure_text_width(line))
            .max()
            .unwrap_or(0)
    }

    /// Width of its longest word, and of some short ones.
    fn least(&self) -> usize {
        let words = self.lines.iter().flat_map(|line| line.split(' '));
        let longest = words.map(measure_text_width).max().unwrap_or(0);
        longest.min(LONGEST_WORD).max(self.most().min(NARROW))
    }

    fn drawn(&self) -> comfy_table::Cell {
        let drawn = comfy_table::Cell::new(self.lines.join("\n"));
        match self.tone {
            Tone::Plain => drawn,
            Tone::Heading => drawn.add_attribute(Attribute::Bold),
            Tone::Good => drawn.fg(Color::Green),
            Tone::Warning => drawn.fg(Color::Yellow),
            Tone::Bad => drawn.fg(Color::Red),
        }
    }
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&'static str; N]) -> Self {
        Self {
            head: head.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, with a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// The table in a terminal of this width; `None`: as wide as it is.
    fn drawn(&self, width: Option<usize>) -> String {
        let head: Vec<Cell> = self
            .head
            .iter()
            .map(|name| cell(name).toned(Tone::Heading))
            .collect();
        let headed = [&head].into_iter().chain(&self.rows);
        let headed: Vec<Vec<Cell>> = headed.cloned().collect();
        match width {
            None => columns(&headed, None),
            Some(width) => match widths(&headed, width) {
                Some(widths) => columns(&headed, Some(&widths)),
                None => self.records(width),
            },
        }
    }

    /// Each row as lines of a name and a value.
    fn records(&self, width: usize) -> String {
        let names = self.head.iter().map(|name| measure_text_width(name));
        let names = names.max().unwrap_or(0);
        let values = width.saturating_sub(names + GAP).max(NARROWEST);
        let pair = |(name, value): (&&'static str, &Cell)| {
            let heading = cell(name).toned(Tone::Heading);
            if value.least() <= values {
                return columns(&[vec![heading, value.clone()]], Some(&[names, values]));
            }
            // An id that stands below its name can be copied as a whole.
            let indented = [vec![cell(""), value.clone()]];
            let room = width.saturating_sub(1 + GAP).max(NARROWEST);
            let value = columns(&indented, Some(&[1, room]));
            format!("{}\n{value}", columns(&[vec![heading]], None))
        };
        let record = |row: &Vec<Cell>| {
            let pairs: Vec<String> = self.head.iter().zip(row).map(pair).collect();
            pairs.join("\n")
        };
        let records: Vec<String> = self.rows.iter().map(record).collect();
        records.join("\n\n")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.drawn(width()))
    }
}

/// A text with a sign before its first line.
pub(super) fn item(sign: &str, tone: Tone, text: &str) -> String {
    let sign = cell(sign).toned(tone);
    let room = width().map(|width| width.saturating_sub(sign.most() + GAP).max(NARROWEST));
    let widths = room.map(|room| [sign.most(), room]);
    let lines = text.lines().map(cell);
    let text = lines.reduce(|text, line| text.below(&line.lines[0]));
    let row = vec![sign, text.unwrap_or_else(|| cell(""))];
    columns(&[row], widths.as_ref().map(|widths| &widths[..]))
}

/// A text that is broken between words.
pub(super) fn prose(text: &str) -> String {
    let widths = width().map(|width| [width]);
    let text = vec![vec![cell(text)]];
    columns(&text, widths.as_ref().map(|widths| &widths[..]))
}

/// The width of each column, if every one has room for its longest word: those that need least have all they need.
fn widths(rows: &[Vec<Cell>], width: usize) -> Option<Vec<usize>> {
    let count = rows.first()?.len();
    let column = |index: usize, of: fn(&Cell) -> usize| {
        let cells = rows.iter().map(|row| of(&row[index]));
        cells.max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..count).map(|index| column(index, Cell::least)).collect();
    let most: Vec<usize> = (0..count).map(|index| column(index, Cell::most)).collect();
    let taken = widths.iter().sum::<usize>() + GAP * (count - 1);
    let mut room = width.checked_sub(taken)?;
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|index| most[*index] - widths[*index]);
    for index in order {
        let more = (most[index] - widths[index]).min(room);
        widths[index] += more;
        room -= more;
    }
    Some(widths)
}

/// Rows in columns of these widths; `None`: as wide as they are.
fn columns(rows: &[Vec<Cell>], widths: Option<&[usize]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if colors_enabled() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.style_text_only();
    for row in rows {
        table.add_row(row.iter().map(Cell::drawn).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP as u16));
        if let Some(width) = widths.and_then(|widths| widths.get(column.index)) {
            let width = Width::Fixed((width + GAP) as u16);
            column.set_constraint(ColumnConstraint::Absolute(width));
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["batch", "status", "items", "reason"]);
        table.row([
            cell("instagram_post_preference_based").below("9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10"),
            cell("completed").toned(Tone::Bad),
            cell("40 of 120"),
            cell("400 Bad Request: no such customer\u{1b}[2J"),
        ]);
        table.row([
            cell("posts"),
            cell("queued"),
            cell(""),
            cell("Grüße an alle"),
        ]);
        table
    }

    #[test]
    fn a_table_has_columns_where_they_have_room_for_their_words() {
        let expected = "\
batch                                 status     items      reason
instagram_post_preference_based       completed  40 of 120  400 Bad Request: no
9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10                        such
                                                            customer\\u001b[2J
posts                                 queued                Grüße an alle";
        assert_eq!(table().drawn(Some(80)), expected);
        let wide = table().drawn(None);
        assert_eq!(wide.lines().count(), 4, "{wide}");
    }

    #[test]
    fn a_narrow_terminal_shows_records_and_no_line_is_too_long() {
        let expected = "\
batch
   instagram_post_preference_based
   9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10
status  completed
items   40 of 120
reason  400 Bad Request: no such
        customer\\u001b[2J

batch   posts
status  queued
items
reason  Grüße an alle";
        assert_eq!(table().drawn(Some(40)), expected);
        for width in 20..200 {
            for line in table().drawn(Some(width)).lines() {
                assert!(measure_text_width(line) <= width, "{width}: {line}");
            }
        }
    }
}
