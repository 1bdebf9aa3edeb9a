use caracal_api::Resource;

use super::columns::{Column, Surroundings};

/// Between two columns.
const GAP: usize = 3;

/// No column is narrower, its gap included.
const NARROWEST: usize = 5;

/// Objects as a table: aligned columns with a gap after each, and an empty line at the end.
pub(crate) fn table(columns: &[Column], resources: &[&Resource], around: &Surroundings) -> String {
    let mut rows = vec![columns.iter().map(|c| c.heading().to_owned()).collect::<Vec<_>>()];
    rows.extend(resources.iter().map(|r| {
        let cells = columns.iter().map(|c| one_line(c.cell(r, around)));
        cells.collect::<Vec<_>>()
    }));
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| {
            let longest = rows.iter().map(|r| r[i].chars().count()).max();
            NARROWEST.max(longest.unwrap_or(0) + GAP)
        })
        .collect();
    let mut text = String::with_capacity(rows.len() * (widths.iter().sum::<usize>() + 1) + 1);
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
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
