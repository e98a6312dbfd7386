//! The table of the migration page is the one that the parser reads.

use penstock_ng::{Row, SECTIONS, Support};
use std::fmt::Write;

const BEGIN: &str = "<!-- table: made by control/ng/tests/migration.rs -->\n";
const END: &str = "<!-- end of table -->\n";

fn row(out: &mut String, row: &Row) {
    let names: Vec<String> = std::iter::once(&row.name)
        .chain(row.also)
        .map(|name| format!("`{name}`"))
        .collect();
    let (what, why) = match row.support {
        Support::Supported(how) => ("supported", how),
        Support::Ignored(why) => ("ignored", why),
        Support::Refused(why) => ("refused", why),
    };
    let _ = writeln!(out, "| {} | {what} | {why} |", names.join(", "));
}

fn table() -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let _ = write!(
            out,
            "\n### {}\n\n| word | | |\n| --- | --- | --- |\n",
            section.title
        );
        section.rows.iter().for_each(|one| row(&mut out, one));
    }
    out + "\n"
}

#[test]
fn the_page_holds_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../MIGRATION.md");
    let page = std::fs::read_to_string(path).expect("control/MIGRATION.md");
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("the mark where the table begins");
    let (found, after) = rest.split_once(END).expect("the mark where the table ends");
    let table = table();
    if std::env::var_os("PENSTOCK_WRITE").is_some() {
        std::fs::write(path, [before, BEGIN, &table, END, after].concat()).expect("written");
        return;
    }
    assert!(
        found == table,
        "control/MIGRATION.md is behind: PENSTOCK_WRITE=1 cargo test -p penstock-ng --test migration"
    );
}

#[test]
fn each_row_can_stand_in_a_table() {
    for section in SECTIONS {
        assert!(!section.rows.is_empty());
        for row in section.rows {
            let (Support::Supported(text) | Support::Ignored(text) | Support::Refused(text)) =
                row.support;
            assert!(
                !text.is_empty() && !text.contains(['|', '\n']),
                "{}",
                row.name
            );
            assert!(!text.ends_with('.'), "{}: no full stop", row.name);
        }
    }
}
