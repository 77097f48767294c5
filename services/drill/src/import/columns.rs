//! Which column of a list is what, by its heading in English or Chinese, and who the players are.

use std::collections::BTreeMap;

use campanile_alert::DepartmentId;

use super::sheet::{Cell, Sheet};
use super::{Fault, Faults};

/// How far down the headings are looked for: lists have titles above them.
const HEADINGS_WITHIN: usize = 20;

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Number,
    Time,
    Synopsis,
    Inject,
    Method,
    From,
    To,
    Expected,
    Objective,
    Event,
    Signal,
    Level,
}

/// The headings of each column, first the one that errors name; letters and digits only, in lower case.
const HEADINGS: [(Column, &str, &[&str]); 12] = [
    (
        Column::Number,
        "No.",
        &["no", "number", "id", "serial", "serialno", "injectno", "injectnumber", "mselno", "編號", "序號", "項目"],
    ),
    (
        Column::Time,
        "Time",
        &[
            "time",
            "scenariotime",
            "eventtime",
            "exercisetime",
            "injecttime",
            "時間",
            "情景時間",
            "劇本時間",
            "演習時間",
        ],
    ),
    (
        Column::Synopsis,
        "Event synopsis",
        &[
            "eventsynopsis",
            "synopsis",
            "event",
            "eventdescription",
            "title",
            "事件",
            "事件概要",
            "概要",
            "事件摘要",
            "標題",
        ],
    ),
    (
        Column::Inject,
        "Inject",
        &[
            "inject",
            "injecttext",
            "injectdescription",
            "message",
            "content",
            "注入",
            "注入內容",
            "訊息",
            "訊息內容",
            "內容",
        ],
    ),
    (
        Column::Method,
        "Method",
        &["method", "deliverymethod", "delivery", "mode", "via", "方式", "途徑", "傳遞方式", "形式"],
    ),
    (
        Column::From,
        "From",
        &[
            "from",
            "controller",
            "sender",
            "fromcontroller",
            "responsiblecontroller",
            "由",
            "發出者",
            "控制員",
            "發放者",
        ],
    ),
    (
        Column::To,
        "To",
        &["to", "player", "recipient", "toplayer", "targetplayer", "對象", "接收者", "參演者", "收件人", "致"],
    ),
    (
        Column::Expected,
        "Expected action",
        &[
            "expectedaction",
            "expectedactions",
            "expectedplayeraction",
            "expectedoutcome",
            "expectedresponse",
            "預期行動",
            "預期反應",
            "預期回應",
        ],
    ),
    (
        Column::Objective,
        "Objective",
        &["objective", "objectives", "capability", "corecapability", "objectivecapability", "目標", "演習目標", "能力"],
    ),
    (Column::Event, "Event code", &["eventcode", "capevent", "alertevent", "事件代碼", "警報類別"]),
    (Column::Signal, "Signal", &["signal", "信號"]),
    (Column::Level, "Level", &["level", "級別"]),
];

/// The columns that a list must have.
const REQUIRED: [Column; 4] = [Column::Number, Column::Time, Column::Inject, Column::To];

/// A list.
#[derive(Debug)]
pub(super) struct Table {
    sheet: String,
    columns: BTreeMap<Column, (u32, String)>,
    /// Headings that nobody knows.
    others: Vec<(u32, String)>,
    /// The rows under the headings that have anything in them: number from 0, cells by column.
    pub(super) rows: Vec<(u32, BTreeMap<u32, Cell>)>,
    /// The roles by the names that the list uses, from the sheet Players; empty when there is none.
    pub(super) roles: BTreeMap<String, String>,
}

impl Table {
    /// Finds the list among the sheets: the first that has all columns it must have.
    pub(super) fn find(sheets: &[Sheet]) -> Result<Self, Faults> {
        let roles = players(sheets)?;
        let mut best: Option<Self> = None;
        for sheet in sheets {
            for (number, cells) in sheet.rows.iter().take(HEADINGS_WITHIN) {
                let table = Self::under(sheet, *number, cells);
                if best.as_ref().is_none_or(|best| table.missing().len() < best.missing().len()) {
                    best = Some(table);
                }
            }
        }
        let Some(mut best) = best else {
            return Err(Fault::whole("the file has no rows; give a list of injects with its headings"));
        };
        let missing = best.missing();
        if missing.len() == REQUIRED.len() {
            let wanted: Vec<&str> = REQUIRED.iter().map(|column| usual(*column)).collect();
            let why = format!("no row has the headings of a list of injects; name the columns {}", wanted.join(", "));
            return Err(Faults(vec![best.fault(None, None, why)]));
        }
        if !missing.is_empty() {
            let why = |column| format!("the column {:?} is missing; add it, or name it so", usual(column));
            return Err(Faults(missing.into_iter().map(|column| best.fault(None, None, why(column))).collect()));
        }
        best.roles = roles;
        Ok(best)
    }

    fn under(sheet: &Sheet, headings: u32, cells: &BTreeMap<u32, Cell>) -> Self {
        let (mut columns, mut others) = (BTreeMap::new(), Vec::new());
        for (at, cell) in cells {
            let heading = cell.text();
            match meant(&heading).filter(|column| !columns.contains_key(column)) {
                Some(column) => _ = columns.insert(column, (*at, heading)),
                None => others.push((*at, heading)),
            }
        }
        let rows = sheet.rows.range(headings + 1..).map(|(row, cells)| (*row, cells.clone())).collect();
        Self { sheet: sheet.name.clone(), columns, others, rows, roles: BTreeMap::new() }
    }

    fn missing(&self) -> Vec<Column> {
        // What happens is in either of two columns.
        let has = |column: &Column| {
            self.columns.contains_key(column)
                || (*column == Column::Inject && self.columns.contains_key(&Column::Synopsis))
        };
        REQUIRED.into_iter().filter(|column| !has(column)).collect()
    }

    /// The heading as the list has it.
    pub(super) fn heading(&self, column: Column) -> &str {
        self.columns.get(&column).map_or(usual(column), |(_, heading)| heading)
    }

    /// A cell of a row by its index in `rows`.
    pub(super) fn cell(&self, row: usize, column: Column) -> Option<&Cell> {
        let (at, _) = self.columns.get(&column)?;
        self.rows.get(row)?.1.get(at)
    }

    /// The text of a cell; empty for none.
    pub(super) fn text(&self, row: usize, column: Column) -> String {
        self.cell(row, column).map(Cell::text).unwrap_or_default()
    }

    /// What stands under headings that nobody knows.
    pub(super) fn others(&self, row: usize) -> Vec<(String, String)> {
        let cell = |at: &u32| self.rows.get(row)?.1.get(at).map(Cell::text);
        self.others.iter().filter_map(|(at, heading)| Some((heading.clone(), cell(at)?))).collect()
    }

    /// The role that a name of the list stands for.
    pub(super) fn role(&self, name: &str) -> Option<String> {
        match self.roles.get(&plain(name)) {
            Some(role) => Some(role.clone()),
            None if is_role(name) => Some(name.to_owned()),
            None => None,
        }
    }

    /// A fault at a place.
    pub(super) fn fault(&self, row: Option<usize>, column: Option<Column>, why: String) -> Fault {
        Fault {
            sheet: self.sheet.clone(),
            row: row.and_then(|row| self.rows.get(row)).map(|(number, _)| number + 1),
            column: column.map(|column| self.heading(column).to_owned()),
            why,
        }
    }
}

/// The sheet of players: names as the list has them, and their roles.
fn players(sheets: &[Sheet]) -> Result<BTreeMap<String, String>, Faults> {
    let named = |sheet: &&Sheet| matches!(plain(&sheet.name).as_str(), "players" | "cast" | "人員" | "參演者");
    let Some(sheet) = sheets.iter().find(named) else { return Ok(BTreeMap::new()) };
    let (mut roles, mut faults) = (BTreeMap::new(), Vec::new());
    for (row, cells) in &sheet.rows {
        let mut texts = cells.values().map(Cell::text);
        let (Some(name), Some(role)) = (texts.next(), texts.next()) else { continue };
        if is_role(&role) {
            roles.insert(plain(&name), role);
        } else if *row > 0 {
            // The first row may be headings.
            let why = format!("{role:?} is no role; write for example edb.duty-officer");
            faults.push(Fault { sheet: sheet.name.clone(), row: Some(row + 1), column: Some("role".into()), why });
        }
    }
    if faults.is_empty() { Ok(roles) } else { Err(Faults(faults)) }
}

fn meant(heading: &str) -> Option<Column> {
    let plain = plain(heading);
    HEADINGS.iter().find(|(.., names)| names.contains(&plain.as_str())).map(|(column, ..)| *column)
}

fn usual(column: Column) -> &'static str {
    HEADINGS.iter().find(|(own, ..)| *own == column).map_or("", |(_, usual, _)| usual)
}

/// A text without case, blanks and signs.
fn plain(text: &str) -> String {
    // `#` alone is how many lists head their numbers.
    if text.trim() == "#" {
        return "no".into();
    }
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a text is a role: `edb.duty-officer`.
pub(super) fn is_role(text: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
    };
    text.split_once('.').is_some_and(|(department, what)| DepartmentId::try_new(department).is_ok() && word(what))
}
