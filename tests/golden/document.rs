//! The offset tables of format.md, read out of the document.
//!
//! A table belongs to the section whose heading stands above it. Its rows name
//! an offset, a size and a field; where one of the first two is not a number,
//! because it depends on what comes before, it is left open.

/// The document.
pub const TEXT: &str = include_str!("../../format.md");

/// A row of an offset table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where the field begins, in bytes.
    pub offset: Option<usize>,
    /// How long it is, in bytes.
    pub size: Option<usize>,
    /// What it is called.
    pub field: String,
    /// Which values it may have.
    pub allowed: String,
}

impl Row {
    /// Whether the bytes are zero because they mean nothing.
    pub fn is_reserved(&self) -> bool {
        self.field == "reserved"
    }

    /// The bytes of the field in a structure.
    pub fn bytes<'a>(&self, structure: &'a [u8]) -> &'a [u8] {
        let offset = self.offset.expect("a field with an offset");
        &structure[offset..offset + self.size.expect("a field with a size")]
    }

    /// The field as an integer.
    pub fn number(&self, structure: &[u8]) -> u64 {
        number(self.bytes(structure))
    }
}

/// Bytes as an integer, the least significant one first.
pub fn number(bytes: &[u8]) -> u64 {
    assert!(bytes.len() <= 8, "{} bytes are no integer", bytes.len());
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The offset tables of a section, as in "3.2".
pub fn tables(section: &str) -> Vec<Vec<Row>> {
    let mut tables = Vec::new();
    let mut rows: Option<Vec<Row>> = None;
    for line in body(section).lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells[..] {
            ["", "Offset", "Size", "Field", ..] => rows = Some(Vec::new()),
            ["", offset, size, field, ..] if !offset.starts_with('-') => {
                if let Some(rows) = &mut rows {
                    let (offset, size) = (offset.parse().ok(), size.parse().ok());
                    let [field, allowed] = [field, cells[4]].map(str::to_owned);
                    rows.push(Row { offset, size, field, allowed });
                }
            }
            [_, _, ..] => {}
            _ => tables.extend(rows.take()),
        }
    }
    tables.extend(rows);
    tables
}

/// The text of a section, up to the next heading of any level.
pub fn body(section: &str) -> &'static str {
    let heading = TEXT
        .match_indices('#')
        .map(|(at, _)| &TEXT[at..])
        .find(|text| {
            let title = text.trim_start_matches('#');
            let number = title.trim_start().split([' ', '\n']).next().unwrap_or("");
            title.starts_with(' ') && number.trim_end_matches('.') == section
        })
        .unwrap_or_else(|| panic!("format.md has no section {section}"));
    let text = &heading[heading.find('\n').unwrap_or(heading.len())..];
    &text[..text.find("\n#").map_or(text.len(), |end| end + 1)]
}

/// The only offset table of a section.
pub fn table(section: &str) -> Vec<Row> {
    let mut all = tables(section);
    assert_eq!(all.len(), 1, "tables in section {section}");
    all.remove(0)
}

/// The row of a field.
pub fn row<'a>(rows: &'a [Row], field: &str) -> &'a Row {
    let found = rows.iter().find(|row| row.field == field);
    found.unwrap_or_else(|| panic!("format.md has no field {field}"))
}
