use std::borrow::Cow;

use caracal_api::Resource;

use super::columns::{Column, Surroundings};

/// Between two columns.
const GAP: usize = 3;

/// No column is narrower, its gap included.
const NARROWEST: usize = 5;

/// Objects as a table: aligned columns with a gap after each, and an empty line at the end. The objects need not stay:
/// a list may have a hundred thousand.
pub(crate) struct Table {
    columns: Vec<Column>,
    /// All cells in one text, with where each ends and how wide it is.
    cells: String,
    ends: Vec<(usize, usize)>,
    widths: Vec<usize>,
}

impl Table {
    /// The headings alone.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let mut table = Self {
            cells: String::new(),
            ends: Vec::new(),
            widths: vec![NARROWEST; columns.len()],
            columns: Vec::new(),
        };
        for (i, column) in columns.iter().enumerate() {
            table.cell(i, column.heading());
        }
        table.columns = columns;
        table
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, resource: &Resource, around: &Surroundings) {
        let columns = std::mem::take(&mut self.columns);
        for (i, column) in columns.iter().enumerate() {
            self.cell(i, &one_line(column.cell(resource, around)));
        }
        self.columns = columns;
    }

    fn cell(&mut self, column: usize, cell: &str) {
        let width = if cell.is_ascii() {
            cell.len()
        } else {
            cell.chars().count()
        };
        self.cells.push_str(cell);
        self.ends.push((self.cells.len(), width));
        self.widths[column] = self.widths[column].max(width + GAP);
    }

    /// The text of all rows.
    pub(crate) fn text(&self) -> String {
        let columns = self.columns.len().max(1);
        let row: usize = self.widths.iter().sum();
        let mut text = String::with_capacity(self.ends.len() / columns * (row + 1) + 1);
        let mut start = 0;
        for row in self.ends.chunks(columns) {
            for ((end, width), column) in row.iter().zip(&self.widths) {
                text.push_str(&self.cells[start..*end]);
                text.extend(std::iter::repeat_n(' ', column - width));
                start = *end;
            }
            text.push('\n');
        }
        text.push('\n');
        text
    }
}

/// A value cannot break the table: what a terminal would act on becomes a space.
fn one_line(cell: Cow<'_, str>) -> Cow<'_, str> {
    if cell.chars().any(char::is_control) {
        let blank = |c: char| if c.is_control() { ' ' } else { c };
        return cell.chars().map(blank).collect::<String>().into();
    }
    cell
}
