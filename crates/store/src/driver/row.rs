//! Rows that statements return. What does not read back was not written by us, and is an error rather than a panic.

use std::{str::FromStr, vec};

use chrono::{DateTime, Utc};
use punctual_application::ports::StoreError;

use crate::errors::failed;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, read from its first column to its last.
#[derive(Debug)]
pub(crate) struct Row {
    cells: vec::IntoIter<Cell>,
    columns: usize,
}

impl Row {
    pub(super) fn new(cells: Vec<Cell>) -> Self {
        Self {
            columns: cells.len(),
            cells: cells.into_iter(),
        }
    }

    /// The value of the next column.
    pub(crate) fn next<T: FromCell>(&mut self) -> Result<T, StoreError> {
        let cell = self.cells.next().unwrap_or(Cell::Null);
        T::from_cell(cell)
            .map_err(|cell| failed(format!("column {} holds {cell:?}", self.number())))
    }

    /// The text of the next column as what it stands for.
    pub(crate) fn parse<T: FromStr>(&mut self) -> Result<T, StoreError> {
        let text: String = self.next()?;
        let parsed = text.parse();
        parsed.map_err(|_| failed(format!("column {} holds `{text}`", self.number())))
    }

    /// Number of the column that was read last, from 1.
    fn number(&self) -> usize {
        self.columns - self.cells.len()
    }
}

/// What a column may hold.
pub(crate) trait FromCell: Sized {
    /// # Errors
    /// The cell, when it holds something else.
    fn from_cell(cell: Cell) -> Result<Self, Cell>;
}

impl FromCell for i64 {
    fn from_cell(cell: Cell) -> Result<Self, Cell> {
        match cell {
            Cell::Integer(value) => Ok(value),
            other => Err(other),
        }
    }
}

/// A count; never negative.
impl FromCell for u64 {
    fn from_cell(cell: Cell) -> Result<Self, Cell> {
        i64::from_cell(cell).map(|value| value.max(0).unsigned_abs())
    }
}

impl FromCell for u32 {
    fn from_cell(cell: Cell) -> Result<Self, Cell> {
        u64::from_cell(cell).map(|value| value.try_into().unwrap_or(u32::MAX))
    }
}

impl FromCell for bool {
    fn from_cell(cell: Cell) -> Result<Self, Cell> {
        i64::from_cell(cell).map(|value| value != 0)
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell) -> Result<Self, Cell> {
        match cell {
            Cell::Text(value) => Ok(value),
            other => Err(other),
        }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell) -> Result<Self, Cell> {
        match cell {
            Cell::Bytes(value) => Ok(value),
            Cell::Text(value) => Ok(value.into_bytes()),
            other => Err(other),
        }
    }
}

/// An instant, in microseconds since 1970.
impl FromCell for DateTime<Utc> {
    fn from_cell(cell: Cell) -> Result<Self, Cell> {
        let micros = i64::from_cell(cell)?;
        Self::from_timestamp_micros(micros).ok_or(Cell::Integer(micros))
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell) -> Result<Self, Cell> {
        match cell {
            Cell::Null => Ok(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

/// What a row is read as: a value of one column, a tuple of several, or a type of ours.
pub(crate) trait FromRow: Sized {
    fn from_row(row: Row) -> Result<Self, StoreError>;
}

impl<T: FromCell> FromRow for T {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        row.next()
    }
}

impl FromRow for Row {
    fn from_row(row: Row) -> Result<Self, StoreError> {
        Ok(row)
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)+) => { $(
        impl<$($name: FromCell),+> FromRow for ($($name,)+) {
            fn from_row(mut row: Row) -> Result<Self, StoreError> {
                Ok(($(row.next::<$name>()?,)+))
            }
        }
    )+ };
}
tuples! {
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
}
