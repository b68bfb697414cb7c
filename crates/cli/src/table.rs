//! The look of all tables: columns, and a line under the header.

use comfy_table::{LineStyle, Row, Table, TableStyle};

/// A table with this header.
pub fn table(header: impl Into<Row>) -> Table {
    let line = LineStyle::none().fill('─').junction('─');
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(line)).set_header(header);
    table
}
