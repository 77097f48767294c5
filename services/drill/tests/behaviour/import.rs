//! Lists of injects as planners keep them: read from real workbooks, and refused with the place when they are wrong.

use campanile_alert::{DateTime, ExerciseId};
use campanile_drill::import::{Imported, Plan, import};
use campanile_drill::scenario::Via;
use campanile_drill::{Bench, Offset, Scenario, play_all};
use proptest::prelude::*;
use rust_xlsxwriter::{ExcelDateTime, Format, Workbook};

fn plan() -> Plan {
    Plan {
        drill: "harbour-list".into(),
        exercise: ExerciseId::try_new("HL1").unwrap(),
        start: DateTime::parse("2026-10-13T10:20:00+08:00").unwrap(),
    }
}

fn csv(text: &str) -> Result<Imported, String> {
    import(text.as_bytes(), &plan()).map_err(|faults| faults.to_string())
}

/// A workbook with a title above its headings, times in several forms, and a sheet of players.
fn workbook() -> Workbook {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_name("MSEL").unwrap();
    sheet.write(0, 0, "Exercise Harbour View").unwrap();
    let headings = ["No.", "Scenario time", "Event synopsis", "Inject", "Method", "From", "To", "Expected action"];
    for (column, heading) in
        headings.iter().chain(&["Objective / capability", "Event code", "Level", "Remarks"]).enumerate()
    {
        sheet.write(2, column as u16, *heading).unwrap();
    }
    let time = Format::new().set_num_format("hh:mm");
    let rows: [(f64, &str, [&str; 9]); 3] = [
        (1.0, "T+0m", ["Fire", "Smoke over the quay", "CAP", "FSD", "", "", "Warning", "fire", "3"]),
        (
            2.0,
            "D+0 H+0 M+11",
            [
                "Call",
                "A principal rings: what now?",
                "Phone",
                "Lead controller",
                "Duty officer (EDB)",
                "Says who decides",
                "Warning",
                "",
                "",
            ],
        ),
        (3.0, "", ["Hall", "Residents gather", "Phone", "ctl.lead", "had.ecc-duty", "", "Shelter", "", ""]),
    ];
    for (index, (number, at, texts)) in rows.iter().enumerate() {
        let row = index as u32 + 3;
        sheet.write(row, 0, *number).unwrap();
        match at.is_empty() {
            false => _ = sheet.write(row, 1, *at).unwrap(),
            true => {
                let half_past = ExcelDateTime::from_hms(10, 36, 0).unwrap();
                sheet.write_datetime_with_format(row, 1, &half_past, &time).unwrap();
            }
        }
        for (column, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            sheet.write(row, column as u16 + 2, *text).unwrap();
        }
    }
    sheet.write(4, 11, "Use the second line").unwrap();
    let players = book.add_worksheet();
    players.set_name("Players").unwrap();
    for (row, (name, role)) in [("Player", "Role"), ("Duty Officer, EDB", "edb.duty-officer")].iter().enumerate() {
        players.write(row as u32, 0, *name).unwrap();
        players.write(row as u32, 1, *role).unwrap();
    }
    book
}

#[test]
fn a_real_workbook_becomes_a_scenario_that_checks_and_plays() {
    let bytes = workbook().save_to_buffer().unwrap();
    let imported = import(&bytes, &plan()).unwrap_or_else(|faults| panic!("{faults}"));
    let scenario = &imported.scenario;
    let told: Vec<_> =
        scenario.injects.iter().map(|one| (one.id.as_str(), one.at.unwrap().ms() / 60_000, one.via)).collect();
    assert_eq!(told, [("i1", 0, Via::Alert), ("i2", 11, Via::Person), ("i3", 16, Via::Person)]);
    assert_eq!(scenario.injects[1].to.as_deref(), Some("edb.duty-officer"), "by the sheet of players");
    assert_eq!(scenario.injects[0].alert.as_ref().unwrap().level, Some(3));
    assert_eq!(scenario.injects[2].controller.as_deref(), Some("ctl.lead"));
    let objectives: Vec<&str> = scenario.objectives.values().map(|one| one.text.en()).collect();
    assert_eq!(objectives, ["Warning", "Shelter"]);
    assert!(imported.notes.contains(&"i2 Remarks: Use the second line".to_owned()), "{:?}", imported.notes);
    assert!(imported.notes.contains(&"i2 From: Lead controller".to_owned()), "{:?}", imported.notes);

    let yaml = imported.yaml().unwrap();
    let (again, found) = Scenario::parse(&yaml).unwrap_or_else(|refusal| panic!("{refusal:?}\n{yaml}"));
    assert_eq!((&again, found.len()), (scenario, 0), "{found:?}");
    assert!(yaml.contains("# i2 Remarks: Use the second line\n"));
    let bench = Bench::load(&again.cast.nodes, &|_| None).unwrap();
    let played = play_all(&again, &bench, &|_| None, 1).unwrap();
    assert!(played.verdict.passed, "{:#?}", played.verdict.items);
}

#[test]
fn headings_and_marks_in_chinese_and_csv_are_read_the_same() {
    let imported = csv("\u{feff}編號,時間,事件概要,注入內容,方式,控制員,對象,預期行動,目標\r\n\
         7,T＋15m,來電,\"校長來電，\n濃煙\",電話,,edb.duty-officer,說明由誰決定,預警\r\n")
    .unwrap();
    let inject = &imported.scenario.injects[0];
    assert_eq!((inject.id.as_str(), inject.at), ("i7", Some(Offset::from_ms(900_000))));
    assert_eq!(inject.say.as_deref(), Some("校長來電，\n濃煙"));
    assert_eq!(imported.notes, ["i7 方式: 電話"]);
    assert_eq!(imported.scenario.expect.len(), 2, "the answer, and the action for an observer");
    Scenario::parse(&imported.yaml().unwrap()).unwrap();
}

#[test]
fn times_are_read_in_every_form_that_lists_have() {
    for (written, minutes) in [
        ("T+0m", 0),
        ("T+1h30m", 90),
        ("T+1:30", 90),
        ("t+90M", 90),
        ("D+2 H+3 M+45", 2 * 1440 + 225),
        ("H+3", 180),
        ("10:20", 0),
        ("10:35:00", 15),
        ("D+1 09:20", 23 * 60),
    ] {
        let list = format!("No.,Time,Inject,To\n1,{written},x,edb.duty-officer\n");
        let imported = csv(&list).unwrap_or_else(|why| panic!("{written}: {why}"));
        assert_eq!(imported.scenario.injects[0].at, Some(Offset::from_ms(minutes * 60_000)), "{written}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_row_and_column_and_all_at_once() {
    let list = "No.,Time,Inject,To,Event code,From\n\
                1,T+0m,x,edb.duty-officer\n\
                1,T+1m,x,edb.duty-officer\n\
                2,T+5x,x,edb.duty-officer\n\
                3,09:10,x,edb.duty-officer\n\
                4,D-1,x,edb.duty-officer\n\
                5,D+40,x,edb.duty-officer\n\
                6,T+1m,x,The Duty Officer\n\
                7,T+1m,,edb.duty-officer\n\
                8,T+1m,x,\n\
                9,T+1m,x,,volcano,fsd\n\
                10,T+1m,x,,fire,\n\
                ,T+1m,x,edb.duty-officer\n";
    let error = csv(list).unwrap_err();
    let lines: Vec<&str> = error.lines().collect();
    for (line, says) in lines.iter().zip([
        "row 3, column \"No.\": the number 1 is there twice",
        "row 4, column \"Time\": \"T+5x\" is no time; write",
        "row 5, column \"Time\": \"09:10\" is before the start",
        "row 6, column \"Time\": \"D-1\" is before the start",
        "row 7, column \"Time\": \"D+40\" is more than 31 days",
        "row 8, column \"To\": \"The Duty Officer\" is no role",
        "row 9, column \"Inject\": the inject says nothing",
        "row 10, column \"To\": nobody is to get the message",
        "row 11, column \"Event code\": the vocabulary has no event \"volcano\"",
        "row 12, column \"From\": \"\" is no department",
        "row 13, column \"No.\": the inject has no number",
    ]) {
        assert!(line.starts_with(says), "{line}\nwanted: {says}");
    }
    assert_eq!(lines.len(), 11, "{error}");
}

#[test]
fn a_missing_column_and_a_file_that_is_no_list_are_one_sentence() {
    for (bytes, says) in [
        (&b"No.,Time,Inject\n1,T+0m,x\n"[..], "the column \"To\" is missing; add it, or name it so"),
        (b"Name,Telephone\na,b\n", "no row has the headings of a list of injects; name the columns No., Time"),
        (b"", "the file has no rows"),
        (b"No.,Time,Inject,To\n", "there is no row under the headings"),
        (b"PK\x03\x04 not really", "is no sound XLSX workbook"),
        (b"\xd0\xcf\x11\xe0old", "save it as XLSX"),
        (b"\xff\xfe\x00\x01", "neither XLSX nor CSV"),
    ] {
        let error = import(bytes, &plan()).unwrap_err().to_string();
        assert!(error.contains(says) && error.lines().count() == 1, "{error}\nwanted: {says}");
    }
}

#[test]
fn a_player_who_is_in_no_row_of_the_sheet_of_players_is_named_with_sheet_and_row() {
    let mut book = workbook();
    book.worksheet_from_name("MSEL").unwrap().write(4, 6, "Somebody").unwrap();
    let error = import(&book.save_to_buffer().unwrap(), &plan()).unwrap_err().to_string();
    assert_eq!(
        error,
        "sheet \"MSEL\", row 5, column \"To\": the player \"Somebody\" is not in the sheet Players; add a row there or \
         mend the name"
    );
}

#[test]
fn cells_far_apart_and_parts_that_unpack_without_end_are_refused_at_once() {
    let mut far = Workbook::new();
    let sheet = far.add_worksheet();
    sheet.write(0, 0, "No.").unwrap();
    sheet.write(1_000_000, 16_000, "x").unwrap();
    let error = import(&far.save_to_buffer().unwrap(), &plan()).unwrap_err().to_string();
    assert!(error.contains("row 1000001") && error.contains("more than 20000 rows"), "{error}");

    let mut bomb = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    bomb.start_file("xl/workbook.xml", zip::write::SimpleFileOptions::default()).unwrap();
    for _ in 0..97 {
        std::io::Write::write_all(&mut bomb, &vec![b' '; 1 << 20]).unwrap();
    }
    let bytes = bomb.finish().unwrap().into_inner();
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
    let error = import(&bytes, &plan()).unwrap_err().to_string();
    assert!(error.contains("unpacks to more than 96 MiB"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nonsense_is_an_answer_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>()) {
        drop(import(&bytes, &plan()));
        // A sound workbook with a few bytes changed reaches further than noise does.
        let mut book = workbook().save_to_buffer().unwrap();
        let start = at.index(book.len());
        for (index, byte) in bytes.iter().take(8).enumerate() {
            if let Some(place) = book.get_mut(start + index) {
                *place = *byte;
            }
        }
        drop(import(&book, &plan()));
    }
}
