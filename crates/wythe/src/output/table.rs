//! Columns as Go's text/tabwriter lays them out with Docker's settings: at least ten characters
//! wide, three blanks between, the last cell of a line as it is.

/// Least width of a column.
const WIDTH_MIN: usize = 10;
/// Blanks after the longest cell of a column.
const PADDING: usize = 3;

/// Turns tab-separated lines into aligned ones.
///
/// A column is a run of consecutive lines that have a tab after their cell there.
pub(crate) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> =
        text.split_inclusive('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len()]).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let ends = |line: &Vec<&str>| line.len() > column + 1;
        let mut start = 0;
        while start < lines.len() {
            let run = lines.iter().skip(start).take_while(|line| ends(line)).count();
            let cells = lines.iter().skip(start).take(run).filter_map(|line| line.get(column));
            let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            let width = (longest + PADDING).max(WIDTH_MIN);
            for line in widths.iter_mut().skip(start).take(run) {
                if let Some(place) = line.get_mut(column) {
                    *place = width;
                }
            }
            start += run.max(1);
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_as_docker_aligns_them() {
        let text =
            "CONTAINER ID\tIMAGE\tNAMES\nc0ffee\tdebian:bookworm\tweb\n0123456789ab\té\tdb\n";
        insta::assert_snapshot!(align(text), @r"
        CONTAINER ID   IMAGE             NAMES
        c0ffee         debian:bookworm   web
        0123456789ab   é                 db
        ");
    }

    #[test]
    fn short_columns_are_ten_wide_and_text_without_tabs_is_untouched() {
        assert_eq!(align("A\tB\n"), "A         B\n");
        assert_eq!(align("plain\n"), "plain\n");
        assert_eq!(align(""), "");
    }

    #[test]
    fn lines_without_a_column_end_it() {
        assert_eq!(
            align("long cell here\tx\nnone\na\tb\n"),
            "long cell here   x\nnone\na         b\n"
        );
    }
}
