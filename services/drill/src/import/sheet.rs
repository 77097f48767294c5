//! Cells of a spreadsheet, read within stated bounds.
//!
//! An XLSX file is a ZIP archive, so each part is inflated once against a limit before anything else looks at it: what is
//! declared about sizes is not believed. Cells are read one by one, since two cells far apart make a huge rectangle.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use calamine::{DataRef, Reader as _, Xlsx};

use super::{Fault, Faults};

/// The longest file, and the most that its parts may come to when inflated, in bytes.
const BYTES_MAX: usize = 16 << 20;
const INFLATED_MAX: u64 = 96 << 20;
/// The most parts of an archive, sheets, rows of a sheet, columns of a row, and characters of a cell.
const PARTS_MAX: usize = 1000;
const SHEETS_MAX: usize = 64;
const ROWS_MAX: u32 = 20_000;
const COLUMNS_MAX: u32 = 128;
const CHARACTERS_MAX: usize = 8000;
/// The most cells of a file.
const CELLS_MAX: usize = 400_000;

/// A sheet: cells by row and column, both from 0; what is empty is not there.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub(super) name: String,
    pub(super) rows: BTreeMap<u32, BTreeMap<u32, Cell>>,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// As it stands, without blanks around it.
    Text(String),
    /// A time of day or a length: a share of a day.
    Days(f64),
    /// A date with its time, as the wall clock shows it: year, month, day, hour, minute, second.
    Moment(u16, u8, u8, u8, u8, u8),
}

impl Cell {
    /// The cell as text.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Days(days) => {
                let minutes = (days * 1440.0).round() as i64;
                format!("{:02}:{:02}", minutes / 60, minutes % 60)
            }
            Self::Moment(year, month, day, hour, minute, _) => {
                format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}")
            }
        }
    }
}

/// Reads a file, XLSX or CSV.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Sheet>, Faults> {
    match bytes {
        _ if bytes.len() > BYTES_MAX => Err(Fault::whole(format!("the file is longer than {} MiB", BYTES_MAX >> 20))),
        [b'P', b'K', ..] => xlsx(bytes),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => {
            Err(Fault::whole("this is a workbook in the old XLS format, or one with a password; save it as XLSX"))
        }
        _ => csv(bytes),
    }
}

fn broken(what: impl std::fmt::Display) -> Faults {
    Fault::whole(format!(
        "the file is no sound XLSX workbook ({what}); open it in a spreadsheet program and save it again"
    ))
}

fn xlsx(bytes: &[u8]) -> Result<Vec<Sheet>, Faults> {
    inflates(bytes)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(broken)?;
    let names = book.sheet_names();
    if names.len() > SHEETS_MAX {
        return Err(Fault::whole(format!("the workbook has more than {SHEETS_MAX} sheets")));
    }
    let (mut sheets, mut cells) = (Vec::new(), 0_usize);
    for name in names {
        let mut sheet = Sheet { name: name.clone(), ..Sheet::default() };
        // A sheet of charts has no cells.
        let Ok(mut reader) = book.worksheet_cells_reader(&name) else { continue };
        while let Some(cell) = reader.next_cell().map_err(broken)? {
            let (row, column) = cell.get_position();
            if let Some(value) = value(cell.get_value()) {
                cells += 1;
                put(&mut sheet, (row, column), value, cells)?;
            }
        }
        sheets.push(sheet);
    }
    Ok(sheets)
}

/// Inflates every part against the limit and throws it away.
fn inflates(bytes: &[u8]) -> Result<(), Faults> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.len() > PARTS_MAX {
        return Err(broken(format!("it has more than {PARTS_MAX} parts")));
    }
    let mut left = INFLATED_MAX;
    for index in 0..archive.len() {
        let part = archive.by_index(index).map_err(broken)?;
        let size = std::io::copy(&mut part.take(left + 1), &mut std::io::sink()).map_err(broken)?;
        left = left.checked_sub(size).ok_or_else(|| {
            Fault::whole(format!(
                "the workbook unpacks to more than {} MiB; it is no list of injects",
                INFLATED_MAX >> 20
            ))
        })?;
    }
    Ok(())
}

fn value(value: &DataRef<'_>) -> Option<Cell> {
    let text = |text: &str| Some(text.trim()).filter(|text| !text.is_empty()).map(|text| Cell::Text(text.to_owned()));
    match value {
        DataRef::Empty => None,
        DataRef::String(own) | DataRef::DateTimeIso(own) | DataRef::DurationIso(own) => text(own),
        DataRef::SharedString(shared) => text(shared),
        DataRef::Int(number) => Some(Cell::Text(number.to_string())),
        DataRef::Float(number) => Some(Cell::Text(number.to_string())),
        DataRef::Bool(is) => Some(Cell::Text(is.to_string())),
        DataRef::DateTime(at) if at.is_duration() || at.as_f64() < 1.0 => Some(Cell::Days(at.as_f64())),
        DataRef::DateTime(at) => {
            let (year, month, day, hour, minute, second, _) = at.to_ymd_hms_milli();
            Some(Cell::Moment(year, month, day, hour, minute, second))
        }
        DataRef::Error(error) => Some(Cell::Text(error.to_string())),
    }
}

/// Puts a cell in its place, when there is room; `cells` are those of the file with this one.
fn put(sheet: &mut Sheet, at: (u32, u32), cell: Cell, cells: usize) -> Result<(), Faults> {
    let (row, column) = at;
    let why = match &cell {
        _ if row >= ROWS_MAX => Some(format!("the sheet has more than {ROWS_MAX} rows; split the list")),
        _ if column >= COLUMNS_MAX => Some(format!("the sheet has more than {COLUMNS_MAX} columns; take some out")),
        _ if cells > CELLS_MAX => Some(format!("the file has more than {CELLS_MAX} cells; split the list")),
        Cell::Text(text) if text.chars().count() > CHARACTERS_MAX => {
            Some(format!("the cell has more than {CHARACTERS_MAX} characters; shorten it"))
        }
        _ => None,
    };
    if let Some(why) = why {
        return Err(Faults(vec![Fault { sheet: sheet.name.clone(), row: Some(row + 1), column: None, why }]));
    }
    sheet.rows.entry(row).or_default().insert(column, cell);
    Ok(())
}

fn csv(bytes: &[u8]) -> Result<Vec<Sheet>, Faults> {
    let text = std::str::from_utf8(bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes))
        .map_err(|_| Fault::whole("the file is neither XLSX nor CSV in UTF-8; save it as XLSX, or as CSV UTF-8"))?;
    // The reader counts a line end of two characters late.
    let text = text.replace("\r\n", "\n");
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let (mut sheet, mut cells) = (Sheet::default(), 0_usize);
    for record in reader.records() {
        let record = record.map_err(|error| Fault::whole(format!("the CSV does not parse: {error}; save it again")))?;
        // The line in the file is what a person looks for; blank lines are no records.
        let row = record.position().map_or(0, |at| at.line().saturating_sub(1));
        for (column, field) in record.iter().enumerate() {
            let field = field.trim();
            if field.is_empty() {
                continue;
            }
            cells += 1;
            let at = (u32::try_from(row).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX));
            put(&mut sheet, at, Cell::Text(field.to_owned()), cells)?;
        }
    }
    Ok(vec![sheet])
}
