use caracal_api::Resource;

use super::columns::{Column, Surroundings};

/// Between two columns.
const GAP: usize = 3;

/// No column is narrower, its gap included.
const NARROWEST: usize = 5;

/// Objects as a table: aligned columns with a gap after each, and an empty line at the end.
pub(crate) fn table(columns: &[Column], resources: &[&Resource], around: &Surroundings) -> String {
    // All cells in one text, with where each ends and how wide it is: a list may have a hundred thousand rows.
    let mut cells = String::new();
    let mut ends: Vec<(usize, usize)> = Vec::with_capacity((resources.len() + 1) * columns.len());
    let mut widths = vec![NARROWEST; columns.len()];
    let mut add = |column: usize, cell: &str| {
        let width = cell.chars().count();
        cells.push_str(cell);
        ends.push((cells.len(), width));
        widths[column] = widths[column].max(width + GAP);
    };
    for (i, column) in columns.iter().enumerate() {
        add(i, column.heading());
    }
    for resource in resources {
        for (i, column) in columns.iter().enumerate() {
            add(i, &one_line(column.cell(resource, around)));
        }
    }
    let mut text = String::with_capacity((resources.len() + 1) * (widths.iter().sum::<usize>() + 1) + 1);
    let mut start = 0;
    for row in ends.chunks(columns.len().max(1)) {
        for ((end, width), column) in row.iter().zip(&widths) {
            text.push_str(&cells[start..*end]);
            text.extend(std::iter::repeat_n(' ', column - width));
            start = *end;
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// A value cannot break the table: what a terminal would act on becomes a space.
fn one_line(cell: String) -> String {
    if cell.chars().any(char::is_control) {
        return cell
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
    }
    cell
}
