//! Lines of a text that comes in pieces, such as the results of a batch: only the line that is not whole yet is kept.

use std::collections::VecDeque;

/// A line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// It, without white space around it; never empty.
    Text(Vec<u8>),
    /// It is longer than lines may be.
    TooLong,
}

/// Cuts pieces into lines. Empty lines are left out.
#[derive(Debug)]
pub(super) struct Lines {
    longest: usize,
    begun: Vec<u8>,
    is_too_long: bool,
    ready: VecDeque<Line>,
}

impl Lines {
    /// Lines of at most so many bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            longest,
            begun: Vec::new(),
            is_too_long: false,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut parts = piece.split(|byte| *byte == b'\n');
        if let Some(rest) = parts.next() {
            self.extend(rest);
        }
        for part in parts {
            self.end();
            self.extend(part);
        }
    }

    /// The text has ended; what is behind its last line break is a line, too.
    pub(super) fn end(&mut self) {
        let line = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.is_too_long) {
            self.ready.push_back(Line::TooLong);
        } else if !line.trim_ascii().is_empty() {
            self.ready.push_back(Line::Text(line.trim_ascii().to_vec()));
        }
    }

    /// The next line that is whole.
    pub(super) fn next(&mut self) -> Option<Line> {
        self.ready.pop_front()
    }

    fn extend(&mut self, part: &[u8]) {
        if self.is_too_long || self.begun.len() + part.len() > self.longest {
            self.is_too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &[u8], piece: usize, longest: usize) -> Vec<Line> {
        let mut lines = Lines::new(longest);
        let mut found = Vec::new();
        for piece in text.chunks(piece) {
            lines.push(piece);
            found.extend(std::iter::from_fn(|| lines.next()));
        }
        lines.end();
        found.extend(std::iter::from_fn(|| lines.next()));
        found
    }

    #[test]
    fn a_line_that_is_too_long_hides_no_other() {
        let text = b"one\r\n\n  \nfar too long\ntwo\nlast";
        let expected = [b"one".as_slice(), b"", b"two", b"last"].map(|line| match line {
            b"" => Line::TooLong,
            line => Line::Text(line.to_vec()),
        });
        for piece in 1..text.len() {
            assert_eq!(lines(text, piece, 4), expected, "{piece}");
        }
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(text in "[a\n ]{0,80}", piece in 1_usize..90) {
            let expected: Vec<Line> = text
                .split('\n')
                .filter(|line| !line.trim().is_empty())
                .map(|line| Line::Text(line.trim().as_bytes().to_vec()))
                .collect();
            prop_assert_eq!(lines(text.as_bytes(), piece, 100), expected);
        }
    }
}
