//! Comma-separated values (RFC 4180) that a spreadsheet opens and obeys nothing of: a cell
//! that would be a formula begins with an apostrophe.

/// Adds one row.
pub fn row(out: &mut String, cells: &[&str]) {
    for (n, cell) in cells.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        out.push('"');
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
            out.push('\'');
        }
        for c in cell.chars() {
            match c {
                '"' => out.push_str("\"\""),
                '\0' => {}
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_cell_is_a_formula() {
        let mut out = String::new();
        row(
            &mut out,
            &["a,b", "say \"x\"", "=cmd|' /C calc'!A0", "\t=1", "-1", ""],
        );
        assert_eq!(
            out,
            "\"a,b\",\"say \"\"x\"\"\",\"'=cmd|' /C calc'!A0\",\"'\t=1\",\"'-1\",\"\"\r\n"
        );
    }
}
